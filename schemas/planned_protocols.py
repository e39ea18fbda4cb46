"""Evaluation protocols by name, and which of them a run measures by itself, on what, and when."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from schemas.settings import Settings

FrozenName = Literal["mask-quality", "region-linear", "voc07-svm", "cocostuff-linear", "knn"]
"""Protocols that measure a backbone as it is."""
TransferName = Literal[
    "imagenet-semi", "voc-detection", "coco-instance", "lvis-instance", "cityscapes-fcn", "cocostuff-fcn"
]
"""Protocols that fine-tune a network around it."""
ProtocolName = FrozenName | TransferName
FROZEN_NAMES: tuple[FrozenName, ...] = get_args(FrozenName)
TRANSFER_NAMES: tuple[TransferName, ...] = get_args(TransferName)
PROTOCOL_NAMES: tuple[ProtocolName, ...] = (*FROZEN_NAMES, *TRANSFER_NAMES)


class PlannedProtocol(Settings):
    """A protocol that `evaluate` runs at chosen cycles."""

    protocol: ProtocolName
    """Which: configs/evaluation/ has a file for each."""
    data: str
    """Folder of the labelled photographs, in the layout that the protocol reads."""
    cycles: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """After which cycles; left out: after each."""
    set: tuple[str, ...] = ()
    """Settings to lay over the protocol's file, such as "max_side=288"."""

    def is_due(self, cycle: int) -> bool:
        """Whether it is measured after that cycle."""
        return self.cycles is None or cycle in self.cycles

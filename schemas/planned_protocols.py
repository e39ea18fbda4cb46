"""Evaluation protocols by name, and which of them a run measures by itself, on what, and when."""

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from schemas.settings import Settings

FrozenName = Literal["mask-quality", "region-linear", "voc07-svm", "cocostuff-linear", "knn"]
"""Protocols that measure a backbone as it is."""
TransferName = Literal[
    "imagenet-semi", "voc-detection", "coco-instance", "lvis-instance", "cityscapes-fcn", "cocostuff-fcn"
]
"""Protocols that fine-tune a network around it."""
ProtocolName = Literal[FrozenName, TransferName]
FROZEN_NAMES: tuple[FrozenName, ...] = get_args(FrozenName)
TRANSFER_NAMES: tuple[TransferName, ...] = get_args(TransferName)
PROTOCOL_NAMES: tuple[ProtocolName, ...] = (*FROZEN_NAMES, *TRANSFER_NAMES)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAKEN = re.compile(r"-(state|epoch-\d+)$")
"""Endings of the files in which a protocol's unfinished work and its other epochs are kept."""


class PlannedProtocol(Settings):
    """A protocol that `evaluate` runs at chosen cycles."""

    protocol: ProtocolName
    """Which: configs/evaluation/ has a file for each."""
    data: str
    """Folder of the labelled photographs, in the layout that the protocol reads."""
    cycles: tuple[Annotated[int, Field(ge=0)], ...] | Literal["last", "checkpoints"] | None = None
    """After which cycles, such as [3, 7], or `last`; left out: after each. `checkpoints`: after each, and then of the
    backbones too that schedule.checkpoint_epochs has kept in it (Fig. 5b)."""
    set: tuple[str, ...] = ()
    """Settings to lay over the protocol's file, such as "max_side=288"."""
    # Not dumped where it is left out: a run that was made before there were names keeps its artifacts.
    name: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """What it is called where one protocol is measured in several ways, such as `imagenet-semi-10`; left out: as the
    protocol."""

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str | None) -> str | None:
        if name is not None and (not _NAME.fullmatch(name) or _TAKEN.search(name)):
            raise ValueError("a file is called so: use letters, digits, '.', '_' and '-', and no ending of ours")
        return name

    @property
    def title(self) -> str:
        """Under which its results are found."""
        return self.name or self.protocol

    def is_due(self, cycle: int, *, last: int) -> bool:
        """Whether it is measured after that cycle of a run whose last one is `last`."""
        if self.cycles == "last":
            return cycle == last
        return self.cycles in (None, "checkpoints") or cycle in self.cycles

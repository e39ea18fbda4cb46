"""What an evaluation leaves behind: metrics.json of a protocol."""

from typing import Any, Literal, Self, get_args

from pydantic import ValidationError

from schemas.artifacts import Provenance, Record
from schemas.planned_protocols import ProtocolName

Encoder = Literal["online", "target"]
"""Of a run: what was trained, or its running average."""
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)

COUNTS = ("photographs", "regions", "classes", "learnt_from", "converged")
"""Figures that say over how much others were measured, or whether a solver came to its end (1) or not (0)."""


class UsedWeights(Record):
    """Which weights were measured, and which of a file's keys they are."""

    source: str
    """File, run or "random", as it was given."""
    name: str
    """As people call it, such as `random resnet18` or `small, cycle 2`; several may be called so."""
    kind: str
    """Digest of all that several seeds of the same have in common: a run's config, photographs, cycle and encoder."""
    architecture: str
    seed: int | None
    """That a run or random weights started from; None of a file."""
    digest: str
    """Content digest over the backbone's tensors."""
    used: int
    """Keys that were loaded."""
    left_out: tuple[str, ...]
    """Keys of the file that this network has no place for, such as a classifier's."""


class UsedData(Record):
    """Which photographs and labels were read."""

    path: str
    digest: str
    """Over names and contents of all files that took part, photographs and labels."""
    photographs: dict[str, int]
    """Split -> how many took part."""
    left_out: dict[str, int]
    """What did not take part, such as photographs without a label -> how many."""


class ProtocolResult(Record):
    """metrics.json."""

    format: Literal[1] = 1
    protocol: ProtocolName
    settings: dict[str, Any]
    smoke: bool
    """Made with the settings of a quick look: no figure to compare with others'."""
    weights: UsedWeights
    data: UsedData
    seeds: dict[str, int]
    """Of the weights where they are known, and of the protocol."""
    figures: dict[str, float]
    skipped: dict[str, str]
    """What was left out of the figures -> why."""
    seconds: float | None
    """How long it took; None within a run, whose manifest says so for the whole stage."""
    provenance: Provenance | None
    """Who measured, where and when; None within a run."""


class SkippedProtocol(Record):
    """What stands in its place within a run, where it could not be measured."""

    protocol: ProtocolName
    skipped: str
    """Why."""

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """None where it is something else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

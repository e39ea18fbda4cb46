"""What the settings of all evaluation protocols have in common."""

from typing import Annotated

from pydantic import Field

from schemas.architectures import Architecture
from schemas.settings import Settings


class ProtocolSettings(Settings):
    """What every protocol is told."""

    architecture: Architecture = "resnet50"
    """Of random weights; a run or a file says its own."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of random weights and of whatever the protocol draws."""
    max_images: Annotated[int, Field(ge=1)] | None = None
    """Photographs of each split that take part, the first by name; left out: all."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:1"."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads on a processor; left out: one per core, which is slow where others use the cores too."""


class LearningSettings(ProtocolSettings):
    """What every protocol is told that learns from labels."""

    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the labelled photographs that are learnt from, drawn by `seed`; of each class where they have one."""

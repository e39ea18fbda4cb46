"""The stages by name, what a launcher hands to one, and what it gets back."""

import os
import sys
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

StageName = Literal["index-images", "warm-up", "bootstrap-masks", "train", "evaluate"]
STAGE_NAMES: tuple[StageName, ...] = get_args(StageName)
STAGE_PURPOSES: dict[StageName, str] = {
    "index-images": "Find the photographs, decode each once, quarantine what is broken, fix the data set's order.",
    "warm-up": "The first epochs, with the vMF clustering loss alone.",
    "bootstrap-masks": "Make the masks of a cycle by clustering the encoder's own features.",
    "train": "Train the encoder with the mask-contrastive loss on the masks of a cycle.",
    "evaluate": "What can be said of a cycle without labels, and the report.",
}
CYCLE_STAGES: tuple[StageName, ...] = ("bootstrap-masks", "train", "evaluate")
"""Stages that happen once per cycle; the others happen once per run."""


class StageRequest(BaseModel):
    """All that travels from the flow to a stage; the rest it reads from the run on storage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Path or URL of the run."""
    stage: StageName
    cycle: Annotated[int, Field(ge=0)] | None = None
    """For the stages of a cycle."""
    force: bool = False
    """Compute again what is done."""

    def command(self) -> list[str]:
        """The command line of the stage, as a child process that ends with this one. -P keeps the working directory
        out of the module path.
        """
        parts = [sys.executable, "-P", "-m", "stages", self.stage, "--run", self.run]
        # By number: this process may be gone before the child can ask who its parent is.
        parts += ["--with-parent", str(os.getpid())]
        if self.cycle is not None:
            parts += ["--cycle", str(self.cycle)]
        return [*parts, "--force"] if self.force else parts


class StageResult(BaseModel):
    """A reference to what a stage left on storage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Such as `bootstrap-masks cycle 2`."""
    path: str
    """Folder of the artifact below the run."""
    content: str
    """Its content digest."""
    computed: bool
    """False when it was done already."""

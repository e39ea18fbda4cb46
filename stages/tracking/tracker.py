"""The interface between a stage and whoever shows its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Shows scalars. It may raise anything: `Trackers` sees to it that the stage goes on."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Figures under `<stage>/<figure>`, at so many training steps since the start of the run."""

    def close(self) -> None:
        """No more of them; what was given is on its way, or on disk."""


@dataclass(frozen=True)
class Tracked:
    """What a tracker files the scalars of a stage under."""

    run: str
    """Name of the run, for people."""
    identity: str
    """Of the run's place, settings and photographs, so that all its stages and attempts come together."""
    project: str
    logs: Path | None
    """The tracker's own folder in the run; None where the run is not on a disk."""
    stage: str
    artifact: str
    """Ends the names of files that belong to this artifact alone."""

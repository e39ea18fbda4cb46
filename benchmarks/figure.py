"""What a benchmark hands back, and what it is given."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Counts = dict[str, float]
"""What was worked on, in each round: photographs, points, GFLOP of both sides, ..."""


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    figure: str
    """Opens with the benchmark's name, such as `step resnet50 224 px float32`."""
    value: float
    """Median over the rounds."""
    target: float
    better: Literal["lower", "higher"]
    unit: str
    """`x` for a ratio, else what the value is in."""
    counts: Counts
    spread: tuple[float, float]
    """Smallest and largest value of a round."""
    rounds: int
    parts: dict[str, float] = field(default_factory=dict)
    """Medians of what the value was made from, with their units in their names."""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


@dataclass(frozen=True)
class Bench:
    """What every benchmark is told."""

    quick: bool
    """Smaller sizes, same code: to see that everything runs; its values say little about the targets."""
    work: Path
    """Folder of this command: photographs and runs, shared by its benchmarks."""
    threads: int
    precisions: tuple[str, ...]
    """Number formats that this processor computes in; of quick sizes the last alone."""

    def pick(self, full: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else full


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))

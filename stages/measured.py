"""What a protocol hands back, and samples seen through a function."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cyborgs.evaluation.frozen import Figures, Samples
from stages.readers.samples import Split

Before = TypeVar("Before")
After = TypeVar("After")


class Mapped(Generic[Before, After]):
    """Samples seen through a function, still read only when asked for."""

    def __init__(self, samples: Samples[Before], change: Callable[[Before], After]) -> None:
        self._samples, self._change = samples, change

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, position: int) -> After:
        return self._change(self._samples[position])


@dataclass(frozen=True)
class Measured:
    """Figures, and the splits that they come from."""

    figures: Figures
    splits: dict[str, Split[Any]]
    chosen: dict[str, Any] = field(default_factory=dict)
    """Settings that were left out, and what stood in for them."""

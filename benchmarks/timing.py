"""Timing of things that are compared: in turns within one process, so that a busy or throttled machine meets all."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """Something to time."""

    run: Callable[[], object]
    before: Callable[[], object] = _nothing
    """Called before each run, untimed."""


@dataclass(frozen=True)
class Summary:
    """Median and extremes over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of one value a round."""
        return cls(statistics.median(values), min(values), max(values))


def in_turns(contenders: Sequence[Contender], *, rounds: int, warm_up: int = 1) -> list[list[float]]:
    """Run all in turns, A B A B ...

    Args:
        warm_up: rounds before, which do not count: allocators, kernels' choices and file caches settle.

    Returns:
        Seconds, per contender one a round.
    """
    seconds: list[list[float]] = [[] for _ in contenders]
    for number in range(warm_up + rounds):
        for contender, taken in zip(contenders, seconds, strict=True):
            contender.before()
            with undisturbed():
                started = time.perf_counter()
                contender.run()
                elapsed = time.perf_counter() - started
            if number >= warm_up:
                taken.append(elapsed)
    return seconds


@contextmanager
def undisturbed() -> Iterator[None]:
    """Garbage is collected before, not meanwhile."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def quotients(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """One a round: what slows a machine for a while slows both sides of a round."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]

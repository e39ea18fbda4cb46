"""The peak of a process."""

import numpy as np

from benchmarks.memory import forget_peak, peak


def test_the_peak_stays_when_the_memory_is_given_back_until_it_is_forgotten() -> None:
    forget_peak()
    before = peak()
    np.ones(100_000_000, np.uint8).sum()
    assert 90e6 < peak() - before < 130e6
    forget_peak()
    assert peak() - before < 30e6

"""The peak of a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np

from benchmarks.memory import forget_peak, peak

forget_peak()
before = peak()
np.ones(100_000_000, np.uint8).sum()
print(peak() - before)
forget_peak()
print(peak() - before)
"""


def test_the_peak_stays_when_the_memory_is_given_back_until_it_is_forgotten() -> None:
    """In a process of its own: in one that has given much back before, new memory may come from there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # the current folder is not asked where PYTHONSAFEPATH is set
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    grown, forgotten = (int(line) for line in done.stdout.split())
    assert 90e6 < grown < 130e6
    assert forgotten < 30e6

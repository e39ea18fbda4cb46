"""Which photographs a step sees: a pure function of seed and step, so a run can go on at any step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyborgs.random_streams import stream


@dataclass(frozen=True)
class SampleName:
    """What one sample is drawn for: its random streams follow from these alone."""

    epoch: int
    row: int
    pairs: int
    """Pairs of views: 2 where a separate vMF update takes views of its own."""


def epoch_order(rows: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of all rows for that epoch: (rows,)."""
    return stream("order", seed, epoch).permutation(rows)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Whole batches in an epoch; the last partial one is dropped.

    Raises:
        ValueError: there are fewer photographs than a batch.
    """
    if rows < batch_size:
        raise ValueError(
            f"{rows} photographs do not fill a batch of {batch_size}: "
            f"set optimization.batch_size to at most {rows}, or add photographs"
        )
    return rows // batch_size

"""How much two label maps of one photograph agree, whatever their labels are called."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score


def mask_agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Adjusted Rand index over the cells (Hubert & Arabie 1985): 1 the same partition, 0 as by chance.

    Args:
        first, second: (h, w) label maps on the same grid.

    Raises:
        ValueError: the grids differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"label maps of {first.shape} and {second.shape} cells cannot be compared")
    return float(adjusted_rand_score(first.ravel(), second.ravel()))

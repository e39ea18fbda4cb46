"""How well the boundaries of two label maps meet, within a tolerance.

Precision is the share of predicted boundary pixels that lie near a true one, recall the share of true ones near a
predicted one. BSDS matches pixels one to one; here each looks for its nearest, which needs no solver and differs
only where boundaries are thicker or denser than the tolerance.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]


def boundary(labels: NDArray[np.integer]) -> Mask:
    """Pixels whose right or lower neighbour has another label: (H, W)."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edges


def boundary_f(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], *, tolerance: float, void: Mask | None = None
) -> float:
    """F-measure of boundaries, 0 to 1.

    Args:
        predicted, truth: (H, W) label maps.
        tolerance: as a share of the diagonal.
        void: (H, W) pixels of unknown label: boundaries nearer to them than the tolerance do not count.

    Returns:
        1 where neither has a boundary, 0 where one alone has.
    """
    reach = tolerance * float(np.hypot(*truth.shape))
    found, true = boundary(predicted), boundary(truth)
    if void is not None and void.any():
        counted = distance_transform_edt(~void) > reach + 1  # a boundary pixel stands for itself and its neighbour
        found, true = found & counted, true & counted
    if not found.any() or not true.any():
        return float(found.any() == true.any())
    precision = float((distance_transform_edt(~true)[found] <= reach).mean())
    recall = float((distance_transform_edt(~found)[true] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

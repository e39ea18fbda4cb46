"""How well the boundaries of masks meet those that people drew, within a tolerance (Martin et al. 2004, as in BSDS).

Precision is the share of predicted boundary pixels that lie near a true one of any annotator, recall the share of all
annotators' that lie near a predicted one; both over the pixels of all photographs together. BSDS matches pixels one to
one; here each looks for its nearest, which needs no solver and counts more where boundaries are denser than the
tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels of some photographs; they add up."""

    found: int = 0
    """Predicted ones,"""
    right: int = 0
    """of which so many lie near a true one."""
    true: int = 0
    """True ones, those of each annotator,"""
    met: int = 0
    """of which so many lie near a predicted one."""

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(
            self.found + other.found, self.right + other.right, self.true + other.true, self.met + other.met
        )

    @property
    def f_measure(self) -> float:
        """0 to 1; 1 where neither side has a boundary, 0 where one alone has."""
        if not self.found or not self.true:
            return float(self.found == self.true)
        precision, recall = self.right / self.found, self.met / self.true
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(labels: NDArray[np.integer]) -> Mask:
    """Pixels whose right or lower neighbour has another label: (H, W)."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edges


def boundary_counts(
    predicted: NDArray[np.integer], truths: Sequence[NDArray[np.integer]], *, tolerance: float, void: int
) -> BoundaryCounts:
    """Of one photograph.

    Args:
        predicted: (H, W) label map.
        truths: (H, W) label map of each annotator.
        tolerance: as a share of the diagonal.
        void: label of unknown pixels: boundaries nearer to them than the tolerance do not count for that annotator.
    """
    reach = tolerance * float(np.hypot(*predicted.shape))
    edges = boundary(predicted)
    near_predicted = _near(edges, reach)
    judged, near_any = np.zeros_like(edges), np.zeros_like(edges)
    true = met = 0
    for truth in truths:
        drawn, known = boundary(truth), np.ones_like(edges)
        if (truth == void).any():
            known = ~_near(truth == void, reach + 1)  # a boundary pixel stands for itself and its neighbour
            drawn &= known
        true += int(drawn.sum())
        met += int((drawn & near_predicted).sum())
        judged |= known
        near_any |= known & _near(drawn, reach)
    found = edges & judged
    return BoundaryCounts(int(found.sum()), int((found & near_any).sum()), true, met)


def _near(mask: Mask, reach: float) -> Mask:
    """Pixels within `reach` of one that is set."""
    if not mask.any():
        return np.zeros_like(mask)
    near: Mask = distance_transform_edt(~mask) <= reach
    return near

"""Which regions of a view take part in the contrast (section 3.2; DetCon samples 16 per view)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

RegionSampling = Literal["independent", "shared"]


def sample_regions(
    labels: NDArray[np.uint8],
    other: NDArray[np.uint8],
    count: int,
    *,
    sampling: RegionSampling,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Sample region ids of a view, with replacement.

    Args:
        labels, other: (G, G) label grids of this view and of its partner.
        count: R.
        sampling: "independent": uniformly from the ids in this view. "shared": uniformly from the ids in both
            views, where there are any.

    Returns:
        (R,) ids, each present in `labels`.
    """
    present = np.unique(labels)
    if sampling == "shared":
        both = np.intersect1d(present, other)
        present = both if both.size else present
    return random.choice(present, size=count, replace=True).astype(np.int64)

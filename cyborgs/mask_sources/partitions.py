"""Regions of a photograph by geometry or colour: grids, and Felzenszwalb and Huttenlocher's graph.

Axes: H x W pixels.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import felzenszwalb

Labels = NDArray[np.uint8]
MOST_REGIONS = 256
"""A mask store's labels are bytes."""


def grid(cells: int) -> Labels:
    """n x n equal cells, whatever the photograph's size: (n, n). One cell is the whole photograph."""
    return np.arange(cells * cells, dtype=np.uint8).reshape(cells, cells)


def felzenszwalb_regions(photograph: Image.Image, *, scale: float, sigma: float, min_size: int) -> Labels:
    """Felzenszwalb and Huttenlocher (2004), as DetCon takes it (Henaff et al. 2021): (H, W).

    Args:
        scale: larger for larger regions.
        sigma: pixels of the blur before it.
        min_size: pixels of the smallest region.
    """
    found = felzenszwalb(np.asarray(photograph), scale=scale, sigma=sigma, min_size=min_size)
    return numbered(found)


def numbered(regions: NDArray[np.integer]) -> Labels:
    """Any labels as 0, 1, …, larger regions first; of more than 256 the smallest share the last number."""
    values, places, counts = np.unique(regions, return_inverse=True, return_counts=True)
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(values))
    labels: Labels = ranks.clip(max=MOST_REGIONS - 1)[places].reshape(regions.shape).astype(np.uint8)
    return labels

"""Figures of a photograph's masks that need no annotations: how its area is shared out, and whether borders fit edges.

Axes: h x w the grid of the label map.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import scharr

Labels = NDArray[np.uint8]
"""(h, w) label map."""


def size_entropy(labels: Labels) -> float:
    """Shannon entropy of the regions' shares of the area, in bits: sum_r s_r log2(1 / s_r); 0 for a single region."""
    _, cells = np.unique(labels, return_counts=True)
    shares = cells / labels.size
    return float(shares @ np.log2(1 / shares))


def effective_regions(labels: Labels) -> float:
    """2 ** `size_entropy`: that many regions of one size would have the same entropy; 1 to the number of regions."""
    return float(2.0 ** size_entropy(labels))


def edge_agreement(photograph: Image.Image, labels: Labels) -> float | None:
    """How far the borders of regions lie on edges of the picture: mean gradient at them, by the mean over all cells.

    The gradient is Scharr's magnitude of the grey photograph averaged down to the label map's grid. A cell is at a
    border where the cell above, below, left or right of it has another label.

    Returns:
        1 as by chance, more where borders follow edges; None without a border, or in a picture without a gradient.
    """
    border = _border_cells(labels)
    height, width = labels.shape
    grey = photograph.convert("L").convert("F").resize((width, height), Image.Resampling.BOX)
    gradient = scharr(np.asarray(grey))  # type: ignore[no-untyped-call]  # (h, w)
    if not border.any() or not gradient.any():
        return None
    return float(gradient[border].mean() / gradient.mean())


def _border_cells(labels: Labels) -> NDArray[np.bool_]:
    border = np.zeros(labels.shape, dtype=np.bool_)
    below, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= below
    border[:-1] |= below
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border

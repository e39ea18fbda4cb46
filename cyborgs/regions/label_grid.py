"""The labels of a crop on a coarse grid: each cell takes the label most frequent among its pixel centres."""

import numpy as np
from numpy.typing import NDArray

from cyborgs.augmentation.crop import Crop

LABELS = 256


def sample_lines(*, start: int, length: int, size: int, extent: int, cells: int) -> NDArray[np.int64]:
    """Along one axis, the grid line that each of a crop's pixel centres falls on.

    Pixel x of `size` has its centre at u = start + (x + 1/2) length / size of an image `extent` pixels long,
    and falls on line floor(u cells / extent). In whole numbers, so that no rounding moves a boundary.

    Returns:
        (size,) integers in 0..cells-1.
    """
    centres = 2 * size * start + (2 * np.arange(size, dtype=np.int64) + 1) * length
    return centres * cells // (2 * size * extent)


def crop_labels(
    labels: NDArray[np.uint8], *, image_size: tuple[int, int], crop: Crop, size: int, grid: int
) -> NDArray[np.uint8]:
    """Label grid of a view.

    Args:
        labels: (h, w) uint8, the photograph's label map on the feature grid.
        image_size: height and width of the photograph in pixels.
        crop: where the view was cut, and whether it was flipped.
        size: S, side of the view in pixels, a multiple of `grid`.
        grid: G, cells along each side.

    Returns:
        (G, G) uint8; of labels equally frequent in a cell, the lowest.
    """
    rows = sample_lines(start=crop.top, length=crop.height, size=size, extent=image_size[0], cells=labels.shape[0])
    columns = sample_lines(start=crop.left, length=crop.width, size=size, extent=image_size[1], cells=labels.shape[1])
    if crop.flip:
        columns = columns[::-1]
    row_cells, row_lines, heights = _counted(rows, grid)
    column_cells, column_lines, widths = _counted(columns, grid)
    # All pixels of a cell that fall on one cell of the map have one label: such a rectangle is counted at once.
    cells = grid * row_cells[:, None] + column_cells
    counted = cells * LABELS + labels.take(row_lines, axis=0).take(column_lines, axis=1)
    pixels = np.multiply.outer(heights, widths)
    counts = np.bincount(counted.ravel(), weights=pixels.ravel(), minlength=grid * grid * LABELS)
    winners = counts.reshape(grid * grid, LABELS).argmax(axis=1)
    grid_labels: NDArray[np.uint8] = winners.reshape(grid, grid).astype(np.uint8)
    return grid_labels


def _counted(lines: NDArray[np.int64], grid: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Along one axis of the view, its pixels counted by the grid cell and the line of the map that they fall on.

    Returns:
        The cell, the line and the number of pixels, where there are any.
    """
    cells = np.arange(len(lines)) * grid // len(lines)
    counts = np.bincount(lines * grid + cells)
    places = np.flatnonzero(counts)
    return places % grid, places // grid, counts[places]

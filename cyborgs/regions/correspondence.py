"""Which cell of the other view shows the same place of the photograph (inter terms of equation 3).

Axes: B images, N = H x W cells of a view's feature grid, row-major.
A box is (top, left, height, width, flip) of a crop in units of the photograph's height and width.
"""

import torch
from torch import Tensor


def cell_centres(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where a view's cell centres lie in the photograph.

    Args:
        boxes: (B, 5).

    Returns:
        v (B, H) and u (B, W): vertical and horizontal positions, 0..1 over the photograph.
    """
    top, left, tall, wide, flip = (column.unsqueeze(1) for column in boxes.unbind(1))
    rows = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    columns = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    columns = torch.where(flip > 0, 1 - columns, columns)
    return top + rows * tall, left + columns * wide


def geometric_matches(boxes: Tensor, other: Tensor, height: int, width: int) -> Tensor:
    """For each cell of a view, the cell of the other view whose centre is nearest.

    Args:
        boxes, other: (B, 5) boxes of this view and of the other.

    Returns:
        (B, N) integer cell of the other view, -1 where the place lies outside of it.
    """
    v, u = cell_centres(boxes, height, width)
    top, left, tall, wide, flip = (column.unsqueeze(1) for column in other.unbind(1))
    vertical, horizontal = (v - top) / tall, (u - left) / wide
    horizontal = torch.where(flip > 0, 1 - horizontal, horizontal)
    row = torch.floor(vertical * height).long()
    column = torch.floor(horizontal * width).long()
    inside_rows, inside_columns = (row >= 0) & (row < height), (column >= 0) & (column < width)
    cell = row.unsqueeze(2) * width + column.unsqueeze(1)  # (B, H, W)
    inside = inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)
    return torch.where(inside, cell, -1).flatten(1)


def index_matches(batch: int, height: int, width: int, *, device: torch.device) -> Tensor:
    """Cell [i, j] with cell [i, j], equation 3 to the letter: (B, N)."""
    return torch.arange(height * width, device=device).expand(batch, -1)

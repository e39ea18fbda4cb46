"""Feature maps of several layers on one grid (equation 5).

Axes: B images, C channels, H x W a layer's own grid, G the side of the common grid.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cyborgs.precision import at_least_float32

Downsample = Literal["area", "bilinear"]


def to_grid(features: Tensor, height: int, width: int, *, downsample: Downsample = "area") -> Tensor:
    """(B, C, H, W) -> (B, C, height, width): bilinear where the grid grows, `downsample` where it shrinks."""
    tall, wide = features.shape[-2:]
    if (tall, wide) == (height, width):
        return features
    shrinks = tall >= height and wide >= width
    if shrinks and downsample == "area":
        if tall % height == 0 and wide % width == 0:
            # The same mean; unlike adaptive pooling its gradient is deterministic on a GPU.
            return F.avg_pool2d(features, (tall // height, wide // width))
        return F.interpolate(features, (height, width), mode="area")
    return F.interpolate(features, (height, width), mode="bilinear", align_corners=False)


def fuse(features: Sequence[Tensor], grid: int, *, downsample: Downsample = "area") -> Tensor:
    """Bring layers to a G x G grid and concatenate their channels.

    Args:
        features: (B, C_l, H_l, W_l) per layer.

    Returns:
        (B, G * G, sum of C_l), float32 or wider, cells in row-major order.
    """
    maps = [to_grid(at_least_float32(layer), grid, grid, downsample=downsample) for layer in features]
    return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)


def unit_features(features: Sequence[Tensor]) -> Tensor:
    """The map that is clustered: on the first layer's grid, concatenated, l2-normalised per cell (section 3.3).

    Args:
        features: (B, C_l, H_l, W_l) per layer.

    Returns:
        (B, H, W, sum of C_l), float32 or wider, unit vectors; a zero feature stays zero.
    """
    height, width = features[0].shape[-2:]
    maps = [to_grid(at_least_float32(layer), int(height), int(width)) for layer in features]
    return F.normalize(torch.cat(maps, dim=1), dim=1, eps=1e-12).permute(0, 2, 3, 1)

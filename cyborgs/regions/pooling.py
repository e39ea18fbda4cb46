"""Region vectors: the mean of the features over a region's cells (equation 1).

Axes: B images, N cells, C channels, R sampled regions.
"""

import torch
from torch import Tensor


def pool_regions(features: Tensor, labels: Tensor, regions: Tensor) -> Tensor:
    """Mean over the cells of each sampled region, as one batched matrix product.

    Args:
        features: (B, N, C) float.
        labels: (B, N) integer region id per cell.
        regions: (B, R) integer ids; each must be present among that image's labels.

    Returns:
        (B, R, C).
    """
    member = (regions.unsqueeze(2) == labels.unsqueeze(1)).to(features.dtype)  # (B, R, N)
    return torch.bmm(member, features) / member.sum(dim=2, keepdim=True)

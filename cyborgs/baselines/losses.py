"""The losses of BYOL, SimCLR, MoCo and DenseCL.

Axes: B images, K rows of a queue, N cells of a grid, C channels, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cyborgs.distributed import ALONE, World
from cyborgs.precision import at_least_float32


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """2 - 2 cos, mean over images (Grill et al. 2020, equation 2): (B, D) each; targets carry no gradient."""
    cosines = F.cosine_similarity(at_least_float32(predictions), at_least_float32(targets.detach()), dim=1)
    return 2 - 2 * cosines.mean()


def nt_xent(first: Tensor, second: Tensor, *, temperature: float, world: World = ALONE) -> Tensor:
    """SimCLR's loss over both views of the global batch (Chen et al. 2020, equation 1): (B, D) each.

    Every process computes the whole loss; gradient goes to its own rows, as anchors and as negatives. So gradients
    add up over processes, and the caller's mean over them has to be taken of `world.size` times this loss.
    """
    own = F.normalize(at_least_float32(torch.stack([first, second])), dim=2)
    vectors = torch.cat([_gathered(view, world) for view in own])
    count = len(vectors)
    scores = (vectors @ vectors.T) / temperature
    scores = scores.masked_fill(torch.eye(count, dtype=torch.bool, device=scores.device), -torch.inf)
    partners = torch.arange(count, device=scores.device).roll(count // 2)
    return F.cross_entropy(scores, partners)


def _gathered(own: Tensor, world: World) -> Tensor:
    """All processes' rows, of which this one's carry gradient."""
    if world.size == 1:
        return own
    parts = list(torch.split(world.gather(own.detach()), len(own)))
    parts[world.rank] = own
    return torch.cat(parts)


def queue_loss(queries: Tensor, keys: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE with the queue's rows as negatives (He et al. 2020, equation 1), mean over queries.

    Args:
        queries: (B, D).
        keys: (B, D) the positive of each; no gradient.
        queue: (K, D) unit vectors.
    """
    queries = F.normalize(at_least_float32(queries), dim=1)
    keys = F.normalize(at_least_float32(keys.detach()), dim=1)
    positive = (queries * keys).sum(dim=1, keepdim=True)
    scores = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64))


def matching_cells(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """For each cell of `queries` the value of the cell of `keys` that is most like it (Wang et al. 2021, equation 3).

    Args:
        queries, keys: (B, C, N) backbone features of two views.
        values: (B, D, N) of the second view.

    Returns:
        (B, D, N).
    """
    alike = torch.einsum("bcn,bcm->bnm", F.normalize(queries, dim=1), F.normalize(keys, dim=1))
    nearest = alike.argmax(dim=2)
    return values.gather(2, nearest.unsqueeze(1).expand(-1, values.shape[1], -1))

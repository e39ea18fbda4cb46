"""Whether representations still spread out: two indicators that need no labels.

Axes: P vectors, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def projection_std(vectors: Tensor) -> float:
    """Standard deviation of l2-normalised vectors, mean over dimensions, x sqrt(D): 1 spread out, 0 collapsed.

    Args:
        vectors: (P, D).
    """
    units = F.normalize(vectors.double(), dim=1)
    return float(units.std(dim=0).mean() * vectors.shape[1] ** 0.5)


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred vectors (Roy & Vetterli 2007).

    Args:
        vectors: (P, D).

    Returns:
        From 1 (all on a line, or one point) to min(P, D).
    """
    centred = vectors.double() - vectors.double().mean(dim=0)
    values = torch.linalg.svdvals(centred)
    total = values.sum()
    if total <= 0:
        return 1.0
    return float(torch.special.entr(values / total).sum().exp())

"""Protocol knn: weighted nearest neighbours on frozen features (Wu et al. 2018), the field's quickest check.

Axes: P photographs, D dimensions, L classes.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from cyborgs.evaluation.frozen import Figures, Samples, frozen, square_features
from cyborgs.networks.backbone import Backbone

_CHUNK = 1024


def knn(
    backbone: Backbone,
    train: Samples[Image.Image],
    train_classes: Sequence[int],
    test: Samples[Image.Image],
    test_classes: Sequence[int],
    *,
    resize: int,
    crop: int,
    neighbours: Sequence[int],
    temperature: float,
) -> Figures:
    """Share of photographs in per cent whose weighted vote names their class, for each k.

    A k beyond the number of photographs that are compared with is skipped.
    """
    with frozen(backbone):
        known = square_features(backbone, train, resize=resize, crop=crop, pool=1)
        asked = square_features(backbone, test, resize=resize, crop=crop, pool=1)
    truth = torch.tensor(test_classes)
    values, skipped = {}, {}
    for k in neighbours:
        if k > len(known):
            skipped[f"k {k}"] = f"only {len(known)} photographs to compare with"
            continue
        votes = vote(known, torch.tensor(train_classes), asked, neighbours=k, temperature=temperature)
        values[f"accuracy_{k}"] = 100 * float((votes == truth).double().mean())
    return Figures(values, skipped)


def vote(known: Tensor, classes: Tensor, asked: Tensor, *, neighbours: int, temperature: float) -> Tensor:
    """The class with the most votes, each weighing exp(similarity / temperature).

    Args:
        known: (P, D) unit vectors, of `classes` (P,).
        asked: (Q, D) unit vectors.

    Returns:
        (Q,) classes; of equal votes the lowest.
    """
    found = []
    for part in torch.split(asked, _CHUNK):
        similarity, nearest = (part @ known.T).topk(neighbours, dim=1)
        # Relative to the best one, so that nothing overflows.
        weights = ((similarity - similarity[:, :1]) / temperature).double().exp()
        votes = torch.zeros(len(part), int(classes.max()) + 1, dtype=torch.float64)
        found.append(votes.scatter_add_(1, classes[nearest], weights).argmax(dim=1))
    return torch.cat(found)

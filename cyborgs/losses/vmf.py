"""The clustering consistency loss (equations 3 and 4): a von Mises-Fisher mixture on the unit sphere.

Axes: B images, N cells of a view, D dimensions, K clusters. All features are unit vectors.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Literal["vmf", "euclidean"]


@dataclass(frozen=True)
class Clustering:
    """Prototypes of one view and each cell's cluster; neither carries a gradient."""

    prototypes: Tensor
    """(K, D) unit vectors."""
    assignments: Tensor
    """(B, N) cluster of the feature that was clustered at that cell."""


def assign(features: Tensor, prototypes: Tensor) -> Tensor:
    """Nearest prototype of each feature: (..., D), (K, D) -> (...,) integers. Both are unit vectors."""
    return (features @ prototypes.T).argmax(dim=-1)


def distances(
    features: Tensor, clusters: Tensor, prototypes: Tensor, *, concentration: float, distance: Distance
) -> Tensor:
    """d(mu_c, y) of equation 3.

    "vmf" is the negative log-posterior of cluster c under a mixture with a common concentration (equation 4):
    cross-entropy with logits +kappa mu^T y. "euclidean" is ||mu_c - y||^2 (Table 2f).

    Args:
        features: (P, D) unit vectors y.
        clusters: (P,) cluster c of each.
        prototypes: (K, D) unit vectors mu.

    Returns:
        (P,).
    """
    if distance == "euclidean":
        return (prototypes[clusters] - features).square().sum(dim=-1)
    return F.cross_entropy(concentration * features @ prototypes.T, clusters, reduction="none")


def clustering_consistency_loss(
    features_1: Tensor,
    features_2: Tensor,
    clustering_1: Clustering,
    clustering_2: Clustering,
    matches_1: Tensor,
    matches_2: Tensor,
    *,
    concentration: float,
    distance: Distance = "vmf",
    matched_1: Tensor | None = None,
    matched_2: Tensor | None = None,
) -> Tensor:
    """Equation 3: intra terms pull a cell to its own view's prototype, inter terms to the one that the same place
    was given in the other view.

    Args:
        features_1, features_2: (B, N, D) unit vectors y of the two views.
        clustering_1, clustering_2: prototypes and assignments of the two views.
        matches_1: (B, N) cell of view 2 at the same place as each cell of view 1, -1 for none; `matches_2` the reverse.
        concentration: kappa.
        matched_1, matched_2: what the sum of an inter term is divided by; default the cells with a match given here.
            Where the batch is one share of n: 1/n of the whole batch's cells with a match, or of 1 if it has none.

    Returns:
        Scalar: the sum of four terms, each a mean over its cells; an inter term without a cell is 0.
    """

    def intra(features: Tensor, clustering: Clustering) -> Tensor:
        return distances(
            features.flatten(0, 1),
            clustering.assignments.flatten(),
            clustering.prototypes,
            concentration=concentration,
            distance=distance,
        ).mean()

    def inter(features: Tensor, other: Clustering, matches: Tensor, matched: Tensor | None) -> Tensor:
        found = matches >= 0
        clusters = other.assignments.gather(1, matches.clamp(min=0))
        each = distances(
            features.flatten(0, 1),
            clusters.flatten(),
            other.prototypes,
            concentration=concentration,
            distance=distance,
        )
        count = found.sum().clamp(min=1) if matched is None else matched.to(each)
        return torch.where(found.flatten(), each, 0.0).sum() / count

    return (
        intra(features_1, clustering_1)
        + intra(features_2, clustering_2)
        + inter(features_1, clustering_2, matches_1, matched_1)
        + inter(features_2, clustering_1, matches_2, matched_2)
    )

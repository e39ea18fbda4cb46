"""The vMF clustering loss of one batch: prototypes, assignments, correspondence, loss (section 3.4, Algorithm 2).

Axes: B images, H x W the clustered layer's grid, N = H x W, D dimensions, K clusters.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cyborgs.clustering.spherical_kmeans import spherical_kmeans
from cyborgs.losses.vmf import Clustering, assign, clustering_consistency_loss
from cyborgs.random_streams import stream
from cyborgs.regions.correspondence import geometric_matches, index_matches
from cyborgs.training.settings import VmfLoss


@dataclass(frozen=True)
class VmfResult:
    """The loss, and how evenly prototypes are used."""

    loss: Tensor
    usage_entropy: Tensor
    """Scalar, entropy of the assignments over log K: 1 is even, 0 is one cluster for all."""


def vmf_loss(
    online: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
    boxes: Tensor,
    rows: Tensor,
    settings: VmfLoss,
    *,
    seed: int,
    step: int,
) -> VmfResult:
    """Equation 3 for one batch.

    Args:
        online, target: each view's unit features (B, H, W, D) from the online and the target network. With
            branches "paper" only online[0] and target[1] are read.
        boxes: (B, 2, 5) of the two views.
        rows: (B,) rows of the index, which name the points that prototypes are fitted on.
    """
    height, width = online[0].shape[1:3]
    if settings.branches == "paper":
        clustered = (online[0].detach(), target[1].detach())
        learned = (online[0], target[1].detach())
    else:
        clustered = (target[0].detach(), target[1].detach())
        learned = online
    count = int(stream("vmf clusters", seed, step).integers(settings.clusters[0], settings.clusters[1], endpoint=True))
    first, second = (
        _cluster(features.flatten(1, 2), rows, count, settings, seed=seed, step=step, view=view)
        for view, features in enumerate(clustered)
    )
    if settings.correspondence == "geometric":
        matches_1 = geometric_matches(boxes[:, 0], boxes[:, 1], height, width)
        matches_2 = geometric_matches(boxes[:, 1], boxes[:, 0], height, width)
    else:
        matches_1 = matches_2 = index_matches(len(rows), height, width, device=rows.device)
    loss = clustering_consistency_loss(
        learned[0].flatten(1, 2),
        learned[1].flatten(1, 2),
        first,
        second,
        matches_1,
        matches_2,
        concentration=settings.concentration,
        distance=settings.distance,
    )
    return VmfResult(loss, (_usage_entropy(first) + _usage_entropy(second)) / 2)


@torch.no_grad()
def _cluster(
    features: Tensor, rows: Tensor, count: int, settings: VmfLoss, *, seed: int, step: int, view: int
) -> Clustering:
    """Prototypes from points that each image contributes by a stream of its own, and every cell's nearest."""
    batch, cells = features.shape[:2]
    share = min(cells, -(-settings.points_per_cluster * count // batch))
    points = []
    for image, row in enumerate(rows.tolist()):
        chosen = stream("vmf points", seed, step, view, row).permutation(cells)[:share]
        points.append(features[image, torch.from_numpy(chosen).to(features.device)])
    prototypes = spherical_kmeans(
        torch.cat(points),
        count,
        random=stream("vmf start", seed, step, view),
        iterations=settings.iterations,
        points_per_cluster=settings.points_per_cluster,
    )
    return Clustering(prototypes, assign(features, prototypes))


def _usage_entropy(clustering: Clustering) -> Tensor:
    clusters = len(clustering.prototypes)
    counts = torch.bincount(clustering.assignments.flatten(), minlength=clusters).double()
    shares = counts / counts.sum()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy / math.log(max(clusters, 2))

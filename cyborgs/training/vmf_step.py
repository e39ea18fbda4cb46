"""The vMF clustering loss of one step: prototypes, assignments, correspondence, loss (section 3.4, Algorithm 2).

Axes: B images of this process, H x W the clustered layer's grid, N = H x W, D dimensions, K clusters.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyborgs.clustering.spherical_kmeans import spherical_kmeans
from cyborgs.distributed import ALONE, World
from cyborgs.losses.vmf import Clustering, assign, clustering_consistency_loss
from cyborgs.random_streams import stream
from cyborgs.regions.correspondence import geometric_matches, index_matches
from cyborgs.training.settings import VmfLoss


@dataclass(frozen=True)
class StepClusters:
    """What a step's loss is measured against; nothing here carries a gradient."""

    views: tuple[Clustering, Clustering]
    """Prototypes of the global batch, assignments of this process' images."""
    matches: tuple[Tensor, Tensor]
    """(B, N) cell of the other view at the same place as each cell of view 1, and of view 2; -1 for none."""
    matched: tuple[Tensor, Tensor]
    """Scalars: the cells with a match that an inter term is a mean over, each share's part of the global batch's."""
    usage_entropy: Tensor
    """Scalar, entropy of the assignments over log K, mean of the views: 1 is even, 0 is one cluster for all."""
    second: Tensor | None
    """(B, H, W, D) what stands for the online features of view 2, with branches "paper"."""


@torch.no_grad()
def cluster_step(
    online: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
    boxes: Tensor,
    rows: Tensor,
    settings: VmfLoss,
    *,
    seed: int,
    step: int,
    world: World = ALONE,
    parts: int = 1,
) -> StepClusters:
    """Cluster the features of a whole step, and find which cells of its views show the same place.

    Args:
        online, target: each view's unit features (B, H, W, D) from the online and the target network. Branches
            "symmetric" read only target, "paper" only online[0] and target[1].
        boxes: (B, 2, 5) of the two views.
        rows: (B,) rows of the index, which name the points that prototypes are fitted on; on the processor, where the
            points are drawn.
        parts: micro-batches that the loss of this process' images is taken in.
    """
    paper = settings.branches == "paper"
    clustered = (online[0] if paper else target[0], target[1])
    height, width = clustered[0].shape[1:3]
    count = int(stream("vmf clusters", seed, step).integers(settings.clusters[0], settings.clusters[1], endpoint=True))
    first, second = (
        _cluster(features.flatten(1, 2), rows, count, settings, seed=seed, step=step, view=view, world=world)
        for view, features in enumerate(clustered)
    )
    if settings.correspondence == "geometric":
        matches_1 = geometric_matches(boxes[:, 0], boxes[:, 1], height, width)
        matches_2 = geometric_matches(boxes[:, 1], boxes[:, 0], height, width)
    else:
        matches_1 = matches_2 = index_matches(len(rows), height, width, device=boxes.device)
    matched = world.sum(torch.stack([(matches >= 0).sum() for matches in (matches_1, matches_2)])).clamp(min=1)
    shares = matched.double() / (world.size * parts)
    return StepClusters(
        (first, second),
        (matches_1, matches_2),
        (shares[0], shares[1]),
        (_usage_entropy(first, world) + _usage_entropy(second, world)) / 2,
        target[1].detach() if paper else None,
    )


def vmf_loss(online: tuple[Tensor, Tensor], clusters: StepClusters, part: slice, settings: VmfLoss) -> Tensor:
    """Equation 3 for some images of a step; its mean over the step's equal shares is the loss of the whole.

    Args:
        online: each view's unit features (B', H, W, D) of those images; with branches "paper" only the first is read.
        part: which of the images that were clustered.

    Returns:
        Scalar.
    """
    second = online[1] if clusters.second is None else clusters.second[part]
    first_clusters, second_clusters = (Clustering(c.prototypes, c.assignments[part]) for c in clusters.views)
    return clustering_consistency_loss(
        online[0].flatten(1, 2),
        second.flatten(1, 2),
        first_clusters,
        second_clusters,
        clusters.matches[0][part],
        clusters.matches[1][part],
        concentration=settings.concentration,
        distance=settings.distance,
        matched_1=clusters.matched[0],
        matched_2=clusters.matched[1],
    )


def _cluster(
    features: Tensor,
    rows: Tensor,
    count: int,
    settings: VmfLoss,
    *,
    seed: int,
    step: int,
    view: int,
    world: World,
) -> Clustering:
    """Prototypes from points that each image contributes by a stream of its own, and every cell's nearest.

    All processes gather the same points and cluster them alike: none waits for another.
    """
    batch, cells = features.shape[:2]
    share = min(cells, -(-settings.points_per_cluster * count // (batch * world.size)))
    chosen = [stream("vmf points", seed, step, view, row).permutation(cells)[:share] for row in rows.tolist()]
    places = np.concatenate([image * cells + own for image, own in enumerate(chosen)])
    prototypes = spherical_kmeans(
        world.gather(features.flatten(0, 1)[_sent(places, features.device)]),
        count,
        random=stream("vmf start", seed, step, view),
        iterations=settings.iterations,
        points_per_cluster=settings.points_per_cluster,
    )
    return Clustering(prototypes, assign(features, prototypes))


def _usage_entropy(clustering: Clustering, world: World) -> Tensor:
    clusters = len(clustering.prototypes)
    # Not bincount, which waits for a GPU to learn the largest number.
    every = torch.arange(clusters, device=clustering.assignments.device)
    counts = world.sum((clustering.assignments.flatten() == every.unsqueeze(1)).sum(dim=1)).double()
    shares = counts / counts.sum()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy / math.log(max(clusters, 2))


def _sent(numbers: NDArray[np.int64], device: torch.device) -> Tensor:
    """Integers on the device, which nobody waits for."""
    here = torch.from_numpy(numbers)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)

"""Bootstrapping segmentation masks (section 3.3, Algorithm 1): cluster a group of photographs' features.

Axes: H x W the feature grid of one photograph, D dimensions, K clusters.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.clustering.crf import Crf, refine, unary_energies
from cyborgs.clustering.spherical_kmeans import spherical_kmeans
from cyborgs.losses.vmf import assign
from cyborgs.networks.backbone import Backbone
from cyborgs.networks.fusion import unit_features
from cyborgs.random_streams import stream

COARSEST_STRIDE = 32
"""Pixels per cell of a ResNet's last layer."""


@dataclass(frozen=True)
class GroupMasks:
    """Masks of the photographs of one group."""

    labels: list[NDArray[np.uint8]]
    """(h, w) per photograph: its feature grid, or its own size where a CRF refined them."""
    clusters: int
    """K that was drawn."""


def fit_within(photograph: Image.Image, max_side: int) -> Image.Image:
    """The photograph with its longer side at most `max_side` pixels, its shape kept."""
    width, height = fitted_size(photograph.width, photograph.height, max_side)
    if (width, height) == photograph.size:
        return photograph
    return photograph.resize((width, height), Image.Resampling.BILINEAR)


def fitted_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Width and height after bringing the longer side down to `max_side`."""
    longer = max(width, height)
    if longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


@torch.no_grad()
def photograph_features(
    backbone: Backbone, photographs: Sequence[Image.Image], layers: Sequence[str], *, bfloat16: bool
) -> list[Tensor]:
    """Unit features of each photograph, (H, W, D) float32; photographs of one size go through together."""
    device = next(backbone.parameters()).device
    found: list[Tensor | None] = [None] * len(photographs)
    order = sorted(range(len(photographs)), key=lambda i: (photographs[i].size, i))
    for _, same in groupby(order, key=lambda i: photographs[i].size):
        numbers = list(same)
        images = torch.stack([to_tensor(photographs[i]) for i in numbers]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            maps = backbone(normalise(images), layers)
        for i, features in zip(numbers, unit_features([maps[layer] for layer in layers]), strict=True):
            found[i] = features
    return [features for features in found if features is not None]


def bootstrap_group(
    backbone: Backbone,
    photographs: Sequence[Image.Image],
    *,
    layers: Sequence[str],
    clusters: tuple[int, int],
    iterations: int,
    points_per_cluster: int,
    seed: int,
    cycle: int,
    group: int,
    bfloat16: bool,
    crf: Crf | None = None,
) -> GroupMasks:
    """Algorithm 1 for one group: K ~ U{clusters}, spherical k-means over all its cells, a label for each.

    Args:
        backbone: in evaluation mode.
        photographs: upright RGB, already fitted to the largest side.
        layers: whose features are clustered.
        clusters: smallest and largest K, both included; capped by the group's number of cells.
        seed, cycle, group: name the group's random stream, so that its masks depend on no other group.
        crf: refine each photograph's labels, at its size.
    """
    features = photograph_features(backbone, photographs, layers, bfloat16=bfloat16)
    points = torch.cat([each.flatten(0, 1) for each in features])
    random = stream("masks", seed, cycle, group)
    count = min(int(random.integers(clusters[0], clusters[1], endpoint=True)), len(points))
    prototypes = spherical_kmeans(
        points, count, random=random, iterations=iterations, points_per_cluster=points_per_cluster
    )
    if crf is None:
        labels = [assign(each, prototypes).to(torch.uint8).cpu().numpy() for each in features]
    else:
        labels = [
            _refined(photograph, each, prototypes, crf) for photograph, each in zip(photographs, features, strict=True)
        ]
    return GroupMasks(labels, count)


def _refined(photograph: Image.Image, features: Tensor, prototypes: Tensor, crf: Crf) -> NDArray[np.uint8]:
    size = (photograph.height, photograph.width)
    present, energies = unary_energies(features, prototypes, size, concentration=crf.concentration)
    return refine(photograph, present, energies, crf)


@torch.no_grad()
def with_fresh_statistics(
    backbone: Backbone,
    groups: Iterable[Sequence[Image.Image]],
    layers: Sequence[str],
    *,
    bfloat16: bool,
) -> Backbone:
    """A copy of the backbone whose batch-norm statistics are those of the given photographs.

    Few training steps leave the running averages near their start; here they are plain
    means over the passes, one for the photographs of each size in each group.
    """
    fresh = copy.deepcopy(backbone)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    fresh.train()
    for group in groups:
        # A map of a single cell has no variance.
        usable = [photograph for photograph in group if max(photograph.size) > COARSEST_STRIDE]
        photograph_features(fresh, usable, layers, bfloat16=bfloat16)
    return fresh.eval()

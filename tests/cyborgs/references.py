"""The method once more, in plain numpy and from the equations, slow and easy to check by eye."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyborgs.augmentation.crop import Crop

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Labels = NDArray[np.uint8]


def unit(vectors: Floats) -> Floats:
    """Each vector divided by its length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_units(random: np.random.Generator, *shape: int) -> Floats:
    """Directions uniform on the sphere."""
    return unit(random.normal(size=shape))


def region_means(features: Floats, labels: Integers, regions: Integers) -> Floats:
    """Equation 1: features (B, N, C), labels (B, N), regions (B, R) -> (B, R, C)."""
    return np.stack(
        [
            np.stack([image[own == region].mean(axis=0) for region in wanted])
            for image, own, wanted in zip(features, labels, regions, strict=True)
        ]
    )


def majority_grid(labels: Labels, *, image_size: tuple[int, int], crop: Crop, size: int, grid: int) -> Labels:
    """A view's label grid by way of the photograph's label map in every pixel of the view, one pixel at a time."""
    tall, wide = image_size
    dense = np.empty((size, size), np.uint8)
    for y in range(size):
        for x in range(size):
            # Twice the pixel centre, over the side of the view: whole numbers until the very last division.
            across = 2 * (size - 1 - x) + 1 if crop.flip else 2 * x + 1
            row = (2 * size * crop.top + (2 * y + 1) * crop.height) * labels.shape[0] // (2 * size * tall)
            column = (2 * size * crop.left + across * crop.width) * labels.shape[1] // (2 * size * wide)
            dense[y, x] = labels[row, column]
    side = size // grid
    winners = np.empty((grid, grid), np.uint8)
    for i in range(grid):
        for j in range(grid):
            votes = Counter(dense[i * side : (i + 1) * side, j * side : (j + 1) * side].ravel().tolist())
            most = max(votes.values())
            winners[i, j] = min(label for label, count in votes.items() if count == most)
    return winners


@dataclass(frozen=True)
class MaskReference:
    """Equation 2, and what is counted beside it: counts per anchor of both views, the share as the directions' mean."""

    loss: float
    positives_per_anchor: float
    orphans: float
    shared_negatives: float


def mask_loss(
    predictions: tuple[Floats, Floats],
    regions: tuple[Integers, Integers],
    targets: tuple[Floats, Floats],
    target_regions: tuple[Integers, Integers],
    *,
    temperature: float,
    first_image: int = 0,
) -> MaskReference:
    """Predictions (B, R, D) and regions (B, R) of this process; targets (B', R, D), (B', R) of all of them."""
    loss, positives, orphans, anchors, shares = 0.0, 0, 0, 0, []
    for view in (0, 1):
        shared = negatives = 0
        batch, count = regions[view].shape
        for b in range(batch):
            for r in range(count):
                image, region = first_image + b, regions[view][b, r]
                anchor = unit(predictions[view][b, r])
                total, log_positive, found = 0.0, [], 0
                for seen in (view, 1 - view):
                    for other in range(len(targets[seen])):
                        for s in range(target_regions[seen].shape[1]):
                            same_image = other == image
                            same_region = target_regions[seen][other, s] == region
                            if same_image and same_region and seen == view:
                                continue  # itself
                            logit = float(anchor @ unit(targets[seen][other, s])) / temperature
                            total += math.exp(logit)
                            if same_image and same_region:
                                found += 1
                                log_positive.append(logit)
                            else:
                                negatives += 1
                                shared += int(same_region)
                anchors += 1
                positives += found
                if not found:
                    orphans += 1
                    continue
                repeats = int((regions[view][b] == region).sum())
                each = sum(math.log(total) - logit for logit in log_positive) / found
                loss += each / repeats / (batch * count)
        shares.append(shared / negatives)
    return MaskReference(loss, positives / anchors, orphans / anchors, sum(shares) / 2)


def log_softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def clustering_distance(y: Floats, cluster: int, prototypes: Floats, *, concentration: float, distance: str) -> float:
    """d(mu_c, y) of equation 3 for one cell."""
    if distance == "euclidean":
        return float(((prototypes[cluster] - y) ** 2).sum())
    return -float(log_softmax(concentration * prototypes @ y)[cluster])


def consistency_loss(
    features: tuple[Floats, Floats],
    prototypes: tuple[Floats, Floats],
    assignments: tuple[Integers, Integers],
    matches: tuple[Integers, Integers],
    *,
    concentration: float,
    distance: str = "vmf",
) -> float:
    """Equation 3: features (B, N, D), prototypes (K, D), assignments and matches (B, N) of the two views."""
    value = 0.0
    for view in (0, 1):
        other = 1 - view
        intra, inter = [], []
        batch, cells = assignments[view].shape
        for b in range(batch):
            for n in range(cells):
                y = features[view][b, n]
                settings = {"concentration": concentration, "distance": distance}
                intra.append(clustering_distance(y, assignments[view][b, n], prototypes[view], **settings))
                place = matches[view][b, n]
                if place >= 0:
                    inter.append(clustering_distance(y, assignments[other][b, place], prototypes[other], **settings))
        value += sum(intra) / len(intra) + (sum(inter) / len(inter) if inter else 0.0)
    return value


def spherical_kmeans(points: Floats, start: Floats, *, iterations: int) -> Floats:
    """Lloyd's algorithm with centroids brought back to the sphere in every iteration."""
    centroids = unit(start)
    for _ in range(iterations):
        nearest = (points @ centroids.T).argmax(axis=1)
        centroids = np.stack(
            [
                unit(points[nearest == k].sum(axis=0)) if (nearest == k).any() else centroids[k]
                for k in range(len(centroids))
            ]
        )
    return centroids


def mean_cosine(points: Floats, centroids: Floats) -> float:
    """What spherical k-means maximises: the mean cosine of a point with its nearest centroid."""
    return float((points @ centroids.T).max(axis=1).mean())


def fused(layers: list[Floats], grid: int, *, downsample: str = "area") -> Floats:
    """Equation 5: layers (B, C_l, H_l, W_l) on one grid, channels one after the other: (B, grid^2, sum C_l)."""
    maps = []
    for layer in layers:
        shrinks = layer.shape[2] > grid
        line = _area if shrinks and downsample == "area" else _bilinear
        maps.append(np.stack([[line(line(c, grid).T, grid).T for c in image] for image in layer]))
    together = np.concatenate(maps, axis=1)
    return together.reshape(len(together), -1, grid * grid).transpose(0, 2, 1)


def _area(lines: Floats, cells: int) -> Floats:
    """Along the first axis, the mean of the lines that each cell covers, a line on a boundary with its share."""
    length = len(lines)
    found = np.zeros((cells, lines.shape[1]))
    for cell in range(cells):
        first, last = cell * length // cells, -(-(cell + 1) * length // cells)
        found[cell] = lines[first:last].mean(axis=0)
    return found


def _bilinear(lines: Floats, cells: int) -> Floats:
    """Along the first axis, between the centres of lines; beyond the outer centres the value stays."""
    length = len(lines)
    if length == 1:
        return np.repeat(lines, cells, axis=0)
    places = np.clip((np.arange(cells) + 0.5) * length / cells - 0.5, 0, length - 1)
    low = np.minimum(np.floor(places).astype(int), length - 2)
    share = (places - low)[:, None]
    return (1 - share) * lines[low] + share * lines[low + 1]


def algorithm_1(maps: list[Floats], starts: Floats, *, iterations: int) -> list[Integers]:
    """Masks of a group: feature maps (h, w, D) of its photographs, K points to start from, a label for each cell."""
    points = np.concatenate([unit(each).reshape(-1, each.shape[-1]) for each in maps])
    prototypes = spherical_kmeans(points, starts, iterations=iterations)
    return [(unit(each) @ prototypes.T).argmax(axis=-1) for each in maps]


def lars_update(
    weight: Floats, gradient: Floats, velocity: Floats, *, rate: float, momentum: float, decay: float, trust: float
) -> tuple[Floats, Floats]:
    """You et al. 2017 on one weight: the new weight and the new velocity."""
    update = gradient + decay * weight
    lengths = np.sqrt((weight**2).sum()), np.sqrt((update**2).sum())
    if lengths[0] > 0 and lengths[1] > 0:
        update = update * trust * lengths[0] / lengths[1]
    velocity = momentum * velocity + update
    return weight - rate * velocity, velocity


def rate_of_step(step: int, *, peak: float, steps: int, growth: int, milestones: tuple[float, ...] | None) -> float:
    """Linear growth; then a tenth at each milestone, or (None) half a cosine."""
    if step + 1 <= growth:
        return peak / growth * (step + 1)
    if milestones is None:
        return peak * math.cos(math.pi / 2 * (step - growth) / (steps - growth)) ** 2
    rate = peak
    for share in milestones:
        if step >= share * steps:
            rate /= 10
    return rate


def target_momentum(step: int, *, start: float, steps: int) -> float:
    """BYOL's 1 - (1 - start) (cos(pi k / K) + 1) / 2, from a start that is lower where the run is short."""
    start = min(start, max(0.0, 1 - 8 / steps))
    return 1 - (1 - start) * math.cos(math.pi / 2 * step / steps) ** 2


def algorithm_3(*, epochs: int, warmup: int, every: int, joins: int) -> list[tuple[str, ...]]:
    """What each epoch does, in order."""
    found = []
    for t in range(epochs):
        if t < warmup:
            found.append(("vmf",))
            continue
        happens = ["bootstrap"] if t == warmup or (every > 0 and t % every == 0) else []
        happens.append("mask")
        if joins > 0 and t % joins == 0:
            happens.append("vmf")
        found.append(tuple(happens))
    return found

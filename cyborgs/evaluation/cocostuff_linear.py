"""Protocol cocostuff-linear (section 4.3, Fig. 5b blue): one 1x1 convolution on a frozen feature map, mIoU.

The feature map is brought to the photograph's size by bilinear interpolation, then classified pixel by pixel. Both
are linear and bilinear weights sum to 1, so classifying cells and interpolating the scores is the same, and cheaper.
Axes: D channels, L classes, h x w cells, H x W pixels.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.clustering.bootstrap import fit_within
from cyborgs.evaluation.frozen import Figures, Samples, frozen, read_ahead
from cyborgs.evaluation.mask_quality import at_size
from cyborgs.networks.backbone import Backbone
from cyborgs.networks.fusion import to_grid
from cyborgs.random_streams import stream, stream_seed

VOID = -1
LabelledPhotograph = tuple[Image.Image, NDArray[np.int32]]
"""A photograph with (H, W) classes of its pixels at its size, VOID where unlabelled."""

_CLASSES = 16
"""Whose scores are held at a photograph's size at once."""


def cocostuff_linear(
    backbone: Backbone,
    train: Samples[LabelledPhotograph],
    test: Samples[LabelledPhotograph],
    *,
    layers: Sequence[str],
    max_side: int,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    seed: int,
) -> Figures:
    """Mean IoU and pixel accuracy in per cent on the test split, at each photograph's own size.

    Trained at the size that photographs are brought down to; mIoU is the mean over the test split's classes.
    """
    with frozen(backbone):
        classes, mean, std = _survey(backbone, train, layers=layers, max_side=max_side)
        if len(classes) < 2:
            return Figures({}, {"all photographs": "the training split shows fewer than two classes"})
        probe = _train(
            backbone,
            train,
            classes,
            _start(mean, std, len(classes), seed=seed),
            layers=layers,
            max_side=max_side,
            epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            seed=seed,
        )
        counts, unseen = _measure(backbone, test, classes, probe, layers=layers, max_side=max_side)
    if not counts.sum():
        return Figures({}, {"all photographs": "the test split shows no labelled pixel"})
    values = {
        "miou": 100 * mean_iou(counts, unseen=len(unseen)),
        "pixel_accuracy": 100 * float(np.trace(counts) / counts.sum()),
        "classes": float((counts[:-1].sum(axis=1) > 0).sum() + len(unseen)),
    }
    return Figures(values, {f"class {number}": "not in the training split: IoU 0" for number in sorted(unseen)})


def mean_iou(counts: NDArray[np.int64], *, unseen: int = 0) -> float:
    """Mean IoU over the classes that occur among the true ones, 0 to 1.

    Args:
        counts: (L + 1, L) pixels of true class (row) that were given a class (column); the last row holds those of
            classes that were never learnt.
        unseen: how many classes those are; the IoU of each is 0.
    """
    known = counts[:-1]
    hits, true, found = np.diag(known), known.sum(axis=1), counts.sum(axis=0)
    occurs = true > 0
    return float((hits[occurs] / (true + found - hits)[occurs]).sum() / (occurs.sum() + unseen))


class Probe(nn.Module):
    """One 1x1 convolution. Features are standardised first by fixed numbers, which a convolution can absorb."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.convolution = nn.Conv2d(len(mean), classes, 1)

    def forward(self, features: Tensor, height: int, width: int) -> Tensor:
        """(1, D, h, w) -> (1, L, height, width) scores."""
        return _grown(self._cells(features), height, width)

    @torch.no_grad()
    def predict(self, features: Tensor, height: int, width: int) -> Tensor:
        """(1, D, h, w) -> (height, width) classes of the highest score, of equal ones the first.

        A few classes at a time: all of them at the size of a large photograph take gigabytes.
        """
        best = torch.full((height, width), -torch.inf, device=features.device)
        classes = torch.zeros((height, width), dtype=torch.int64, device=features.device)
        for first, scores in enumerate(torch.split(self._cells(features), _CLASSES, dim=1)):
            highest, places = _grown(scores, height, width)[0].max(dim=0)
            better = highest > best
            best = torch.where(better, highest, best)
            classes = torch.where(better, places + first * _CLASSES, classes)
        return classes

    def _cells(self, features: Tensor) -> Tensor:
        """Scores on the feature grid: growing them is linear, so it may come after the convolution."""
        scores: Tensor = self.convolution((features - self.mean) / self.std)
        return scores


def _grown(scores: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(scores, (height, width), mode="bilinear", align_corners=False)


def _start(mean: Tensor, std: Tensor, classes: int, *, seed: int) -> Probe:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("cocostuff-linear", seed))
        return Probe(mean.cpu(), std.cpu(), classes).to(mean.device)


@torch.no_grad()
def _features(backbone: Backbone, photograph: Image.Image, layers: Sequence[str]) -> Tensor:
    """(1, D, h, w) on the first layer's grid."""
    device = next(backbone.parameters()).device
    maps = backbone(normalise(to_tensor(photograph).unsqueeze(0).to(device)), layers)
    height, width = maps[layers[0]].shape[-2:]
    return torch.cat([to_grid(maps[layer].float(), height, width) for layer in layers], dim=1)


def _survey(
    backbone: Backbone, samples: Samples[LabelledPhotograph], *, layers: Sequence[str], max_side: int
) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Classes of the training split, and mean and standard deviation of each channel over its cells."""
    seen: set[int] = set()
    cells, total, squares = 0, torch.zeros(()), torch.zeros(())
    for photograph, labels in read_ahead(samples):
        seen.update(np.unique(labels[labels != VOID]).tolist())
        features = _features(backbone, fit_within(photograph, max_side), layers)[0].flatten(1).double()
        cells += features.shape[1]
        total, squares = total + features.sum(dim=1).cpu(), squares + features.square().sum(dim=1).cpu()
    mean = total / cells
    std = (squares / cells - mean.square()).clamp(min=1e-12).sqrt()
    device = next(backbone.parameters()).device
    return np.array(sorted(seen), np.int64), mean.float().to(device), std.float().to(device)


def _train(
    backbone: Backbone,
    samples: Samples[LabelledPhotograph],
    classes: NDArray[np.int64],
    probe: Probe,
    *,
    layers: Sequence[str],
    max_side: int,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    seed: int,
) -> Probe:
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * math.ceil(len(samples) / batch_size)
    step = 0
    for epoch in range(epochs):
        order = stream("cocostuff-linear", seed, epoch).permutation(len(samples)).tolist()
        drawn = read_ahead(samples, order)
        for batch in _batches(drawn, batch_size):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            for photograph, labels in batch:
                image = fit_within(photograph, max_side)
                truth = torch.from_numpy(positions(at_size(labels, image.height, image.width), classes))
                if not (truth != VOID).any():
                    continue
                scores = probe(_features(backbone, image, layers), image.height, image.width)
                loss = F.cross_entropy(scores, truth.unsqueeze(0).to(scores.device), ignore_index=VOID)
                torch.autograd.backward(loss / len(batch))
            optimizer.step()
            step += 1
    return probe


@torch.no_grad()
def _measure(
    backbone: Backbone,
    samples: Samples[LabelledPhotograph],
    classes: NDArray[np.int64],
    probe: Probe,
    *,
    layers: Sequence[str],
    max_side: int,
) -> tuple[NDArray[np.int64], set[int]]:
    """(L + 1, L) counts as `mean_iou` takes them, and the classes that were never learnt."""
    size = len(classes)
    counts, unseen = np.zeros((size + 1, size), np.int64), set[int]()
    for photograph, labels in read_ahead(samples):
        features = _features(backbone, fit_within(photograph, max_side), layers)
        predicted = probe.predict(features, *labels.shape).cpu().numpy()
        truth = positions(labels, classes, unseen=size)
        counted = labels != VOID
        unseen.update(np.unique(labels[truth == size]).tolist())
        counts += np.bincount(truth[counted] * size + predicted[counted], minlength=counts.size).reshape(counts.shape)
    return counts, unseen


def positions(labels: NDArray[np.integer], classes: NDArray[np.int64], *, unseen: int = VOID) -> NDArray[np.int64]:
    """Classes -> their places in the sorted `classes`; VOID stays, a class that is not among them becomes `unseen`."""
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    found = np.where(classes[places] == labels, places, unseen)
    return np.where(labels == VOID, VOID, found).astype(np.int64)


def _batches(samples: Iterator[LabelledPhotograph], size: int) -> Iterator[list[LabelledPhotograph]]:
    batch: list[LabelledPhotograph] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

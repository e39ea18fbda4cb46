"""Protocol region-linear: what a linear classifier reads from the pooled features of regions that people drew.

Axes: R regions of one photograph, H x W its pixels, h x w the feature grid, D dimensions.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.clustering.bootstrap import fit_within
from cyborgs.evaluation.frozen import Figures, Samples, frozen, read_ahead
from cyborgs.networks.backbone import Backbone
from cyborgs.networks.fusion import to_grid


@dataclass(frozen=True)
class RegionSample:
    """A photograph with its annotated regions; they may overlap."""

    photograph: Image.Image
    masks: list[NDArray[np.bool_]]
    """(H, W) per region, each with at least a pixel."""
    classes: list[int]


def region_linear(
    backbone: Backbone,
    train: Samples[RegionSample],
    test: Samples[RegionSample],
    *,
    names: Mapping[int, str],
    layers: Sequence[str],
    max_side: int,
    penalty: float,
    iterations: int,
) -> Figures:
    """Accuracy and macro-F1 in per cent over the test split's regions.

    A region of a class that the training split lacks counts as wrong; macro-F1 is a mean over the test split's classes.

    Args:
        names: class -> how people call it.
    """
    with frozen(backbone):
        learnt, known = region_vectors(backbone, train, layers=layers, max_side=max_side)
        measured, true = region_vectors(backbone, test, layers=layers, max_side=max_side)
    if len(set(known.tolist())) < 2 or not len(true):
        return Figures({}, {"all regions": "the splits hold too few annotated regions"})
    scaler = StandardScaler().fit(learnt)
    classifier = LogisticRegression(C=penalty, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
        classifier.fit(scaler.transform(learnt), known)
    predicted = classifier.predict(scaler.transform(measured))
    unseen = sorted(set(true.tolist()) - set(known.tolist()))
    values = {
        "accuracy": 100 * float((predicted == true).mean()),
        "macro_f1": 100 * macro_f1(predicted, true),
        "regions": float(len(true)),
        "classes": float(len(set(true.tolist()))),
        "converged": float(classifier.n_iter_.max() < iterations),
    }
    skipped = {f"class {names[number]}": "not in the training split: its regions count as wrong" for number in unseen}
    return Figures(values, skipped)


@torch.no_grad()
def region_vectors(
    backbone: Backbone, samples: Samples[RegionSample], *, layers: Sequence[str], max_side: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(all regions, D) vectors and their classes."""
    device = next(backbone.parameters()).device
    vectors: list[NDArray[np.float32]] = []
    classes: list[int] = []
    for sample in read_ahead(samples):
        if not sample.masks:
            continue
        image = to_tensor(fit_within(sample.photograph, max_side)).unsqueeze(0).to(device)
        maps = backbone(normalise(image), layers)
        height, width = maps[layers[0]].shape[-2:]
        features = torch.cat([to_grid(maps[layer].float(), height, width) for layer in layers], dim=1)[0]
        masks = torch.from_numpy(np.stack(sample.masks))
        vectors.append(pool_masks(features, masks.to(device)).cpu().numpy())
        classes.extend(sample.classes)
    if not vectors:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.concatenate(vectors), np.array(classes, np.int64)


def pool_masks(features: Tensor, masks: Tensor) -> Tensor:
    """Mean of the features over each region, a cell weighing as much of the region as lies in it (equation 1).

    Args:
        features: (D, h, w).
        masks: (R, H, W) bool at the photograph's size, none empty.

    Returns:
        (R, D).
    """
    height, width = features.shape[-2:]
    shares = F.interpolate(masks[:, None].float(), (height, width), mode="area")[:, 0].flatten(1)  # (R, h w)
    return shares @ features.flatten(1).T / shares.sum(dim=1, keepdim=True)


def macro_f1(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur among the true ones: 0 to 1."""
    scores = []
    for number in np.unique(true):
        hits = ((predicted == number) & (true == number)).sum()
        scores.append(2 * hits / ((predicted == number).sum() + (true == number).sum()))
    return float(np.mean(scores))

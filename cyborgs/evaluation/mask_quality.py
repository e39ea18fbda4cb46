"""Protocol mask-quality (section 4.3, Fig. 4): masks against the regions that people drew.

The paper shows pictures; these are the figures of the segmentation literature (Arbelaez et al. 2011).
Axes: P predicted regions, T true regions, H x W pixels of the photograph.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyborgs.clustering.bootstrap import bootstrap_group, fit_within, with_fresh_statistics
from cyborgs.clustering.crf import Crf
from cyborgs.evaluation.boundaries import BoundaryCounts, boundary_counts
from cyborgs.evaluation.frozen import Figures, Samples, frozen, read_ahead
from cyborgs.networks.backbone import Backbone
from cyborgs.regions.label_grid import sample_lines

VOID = -1
"""Pixels that nobody labelled: they count nowhere."""
BACKGROUND = 0
"""What is left beside the annotated objects: a part of the picture, but no region that masks should find."""
Annotation = NDArray[np.int32]
"""(H, W) region per pixel: VOID, BACKGROUND, or 1 and above."""
Labels = NDArray[np.uint8]
SCORES = ("best_iou", "covering", "variation_of_information", "boundary_f")
ITERATIONS = 20
POINTS_PER_CLUSTER = 256
"""Of the k-means, as bootstrapping has them by default (section 3.3)."""


def masks_of(
    backbone: Backbone,
    photographs: Samples[Image.Image],
    *,
    layers: Sequence[str],
    clusters: int,
    images_per_group: int,
    max_side: int,
    seed: int,
    refresh_batch_norm: int = 0,
    crf: Crf | None = None,
) -> Iterator[Labels]:
    """Masks of each photograph, made as bootstrapping makes them but with K fixed (Algorithm 1).

    Args:
        refresh_batch_norm: this many groups give the batch-norm statistics; 0 takes those of the backbone.
        crf: refine them; then they are at the photograph's fitted size, else on the feature grid.
    """

    def groups() -> Iterator[list[Image.Image]]:
        group: list[Image.Image] = []
        for number, photograph in enumerate(read_ahead(photographs), start=1):
            group.append(fit_within(photograph, max_side))
            if len(group) == images_per_group or number == len(photographs):
                yield group
                group = []

    with frozen(backbone):
        used = backbone
        if refresh_batch_norm:
            used = with_fresh_statistics(backbone, islice(groups(), refresh_batch_norm), layers, bfloat16=False)
        for number, group in enumerate(groups()):
            masks = bootstrap_group(
                used,
                group,
                layers=layers,
                clusters=(clusters, clusters),
                iterations=ITERATIONS,
                points_per_cluster=POINTS_PER_CLUSTER,
                seed=seed,
                cycle=0,
                group=number,
                bfloat16=False,
                crf=crf,
            )
            yield from masks.labels


def mask_quality(pairs: Iterable[tuple[Labels, Sequence[Annotation]]], *, boundary_tolerance: float) -> Figures:
    """Figures in per cent (variation of information in bits).

    Best IoU is a mean over all regions of all photographs, so that each object counts once; boundary F comes from
    the pixels of all photographs, as in BSDS; the others are means over annotators, then over photographs.

    Args:
        pairs: masks on any grid, with the annotations of that photograph at its size.
    """
    best: list[float] = []
    per_photograph: list[tuple[float, float]] = []
    edges = BoundaryCounts()
    for labels, annotations in pairs:
        truths = [truth for truth in annotations if (truth > BACKGROUND).any()]
        if not truths:
            continue
        # Annotations of one photograph are all of its size.
        predicted = at_size(labels, *truths[0].shape)
        of_annotators = []
        for truth in truths:
            counts = contingency(predicted, truth)
            best.extend(best_iou(counts))
            of_annotators.append((covering(counts), variation_of_information(counts[0])))
        edges += boundary_counts(predicted, truths, tolerance=boundary_tolerance, void=VOID)
        covered, information = np.mean(of_annotators, axis=0)
        per_photograph.append((float(covered), float(information)))
    if not per_photograph:
        return Figures({}, {"all photographs": "no annotated region in any of them"})
    covered, information = np.mean(per_photograph, axis=0)
    values = {
        "best_iou": 100 * float(np.mean(best)),
        "covering": 100 * float(covered),
        "variation_of_information": float(information),
        "boundary_f": 100 * edges.f_measure,
        "photographs": float(len(per_photograph)),
        "regions": float(len(best)),
    }
    return Figures(values)


def at_size(labels: NDArray[np.integer], height: int, width: int) -> NDArray[np.integer]:
    """A label map at the photograph's size, by nearest neighbours as training reads it."""
    rows = sample_lines(start=0, length=height, size=height, extent=height, cells=labels.shape[0])
    columns = sample_lines(start=0, length=width, size=width, extent=width, cells=labels.shape[1])
    grown: NDArray[np.integer] = labels[rows[:, None], columns[None, :]]
    return grown


Counts = tuple[NDArray[np.int64], NDArray[np.int32]]


def contingency(predicted: NDArray[np.integer], truth: Annotation) -> Counts:
    """Pixels that each predicted region shares with each true one, void left out.

    Returns:
        (P, T) counts and the (T,) true regions of its columns, BACKGROUND among them where it occurs.

    Raises:
        ValueError: the maps differ in size.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of {predicted.shape} and annotations of {truth.shape} pixels cannot be compared")
    counted = truth != VOID
    found, rows = np.unique(predicted[counted], return_inverse=True)
    true, columns = np.unique(truth[counted], return_inverse=True)
    counts = np.bincount(rows * len(true) + columns, minlength=len(found) * len(true))
    return counts.reshape(len(found), len(true)), true


def best_iou(counts: Counts) -> NDArray[np.float64]:
    """Of each true region but the background, the IoU with the predicted region that fits it best: 0 to 1."""
    shared, true = counts
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    best: NDArray[np.float64] = (shared / union).max(axis=0)[true != BACKGROUND]
    return best


def covering(counts: Counts) -> float:
    """Best IoU of each true region, weighted by its pixels: 0 to 1."""
    shared, true = counts
    sizes = shared.sum(axis=0)[true != BACKGROUND]
    return float((sizes * best_iou(counts)).sum() / sizes.sum())


def variation_of_information(shared: NDArray[np.int64]) -> float:
    """H(predicted | truth) + H(truth | predicted) in bits (Meila 2005): 0 the same partition.

    Args:
        shared: (P, T) counts.
    """
    joint = shared / shared.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    occurs = joint > 0
    ratio = np.divide(joint**2, rows * columns, out=np.ones_like(joint), where=occurs)
    return max(0.0, float(-(joint[occurs] * np.log2(ratio[occurs])).sum()))

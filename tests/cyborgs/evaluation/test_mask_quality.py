"""Mask quality against references written from the definitions, pixel by pixel, and on what people drew."""

import os
from collections import Counter
from math import dist, hypot, log2
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cyborgs.evaluation.boundaries import boundary_f
from cyborgs.evaluation.frozen import BackboneChangedError
from cyborgs.evaluation.mask_quality import (
    BACKGROUND,
    VOID,
    at_size,
    best_iou,
    contingency,
    covering,
    mask_quality,
    masks_of,
    variation_of_information,
)
from cyborgs.networks.backbone import Backbone
from tests.conftest import draw_scene

SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
Map = NDArray[np.int32]


def random_maps(seed: int) -> tuple[Map, Map]:
    """Predicted and true regions of one photograph: some void, some background, of any few labels."""
    random = np.random.default_rng(seed)
    size = random.integers(4, 13, 2)
    coarse = random.integers(0, random.integers(2, 7), (3, 3))
    truth = coarse[np.arange(size[0])[:, None] * 3 // size[0], np.arange(size[1]) * 3 // size[1]].astype(np.int32)
    truth[random.random(size) < 0.1] = VOID
    truth[0, 0] = 1
    return random.integers(0, random.integers(1, 9), size).astype(np.int32), truth


def reference_best(predicted: Map, truth: Map) -> dict[int, float]:
    best = {}
    for region in set(truth.ravel().tolist()) - {VOID, BACKGROUND}:
        best[region] = max(
            (((predicted == other) & (truth == region)).sum())
            / (((predicted == other) & (truth != VOID)) | (truth == region)).sum()
            for other in set(predicted.ravel().tolist())
        )
    return best


def reference_information(predicted: Map, truth: Map) -> float:
    pairs = [(p, t) for p, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True) if t != VOID]
    joint, one, two = Counter(pairs), Counter(p for p, _ in pairs), Counter(t for _, t in pairs)
    total = len(pairs)
    return sum(count / total * (log2(one[p] / count) + log2(two[t] / count)) for (p, t), count in joint.items())


def reference_boundary_f(predicted: Map, truth: Map, tolerance: float) -> float:
    height, width = truth.shape
    reach = tolerance * hypot(height, width)

    def edges(labels: Map) -> list[tuple[int, int]]:
        return [
            (r, c)
            for r in range(height)
            for c in range(width)
            if (r + 1 < height and labels[r, c] != labels[r + 1, c])
            or (c + 1 < width and labels[r, c] != labels[r, c + 1])
        ]

    void = [(int(r), int(c)) for r, c in np.argwhere(truth == VOID)]

    def counted(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [point for point in points if all(dist(point, each) > reach + 1 for each in void)]

    found, true = counted(edges(predicted)), counted(edges(truth))
    if not found or not true:
        return float(bool(found) == bool(true))
    precision = np.mean([min(dist(a, b) for b in true) <= reach for a in found])
    recall = np.mean([min(dist(a, b) for b in found) <= reach for a in true])
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(100))
def test_independent_references_on_random_label_maps(seed: int) -> None:
    predicted, truth = random_maps(seed)
    counts = contingency(predicted, truth)
    best = reference_best(predicted, truth)
    np.testing.assert_allclose(best_iou(counts), [best[region] for region in sorted(best)])
    sizes = {region: int((truth == region).sum()) for region in best}
    expected = sum(sizes[region] * best[region] for region in best) / sum(sizes.values())
    assert covering(counts) == pytest.approx(expected)
    assert variation_of_information(counts[0]) == pytest.approx(reference_information(predicted, truth), abs=1e-12)
    for tolerance in (0.05, 0.2):
        measured = boundary_f(predicted, truth, tolerance=tolerance, void=truth == VOID)
        assert measured == pytest.approx(reference_boundary_f(predicted, truth, tolerance))


@pytest.mark.parametrize("seed", range(10))
def test_perfect_masks_score_100_whatever_they_are_called(seed: int) -> None:
    _, truth = random_maps(seed)
    renamed = (truth.max() - truth + 3).astype(np.uint8)
    figures = mask_quality([(renamed, [truth])], boundary_tolerance=0.01).values
    assert figures["best_iou"] == figures["covering"] == figures["boundary_f"] == 100
    assert figures["variation_of_information"] == 0


def test_annotators_then_photographs_are_averaged_and_each_object_counts_once() -> None:
    """One photograph with two annotators (covering 1 and 1/2), one with a single region covered in full."""
    halves = np.repeat(np.array([[1, 2]], np.int32), 2, axis=0)
    whole = np.ones((2, 2), np.int32)
    figures = mask_quality(
        [(halves.astype(np.uint8), [halves, whole]), (whole.astype(np.uint8), [whole])], boundary_tolerance=0.01
    ).values
    assert figures["covering"] == pytest.approx(100 * ((1 + 0.5) / 2 + 1) / 2)
    assert figures["best_iou"] == pytest.approx(100 * (1 + 1 + 0.5 + 1) / 4)
    assert (figures["photographs"], figures["regions"]) == (2, 4)


def test_photographs_without_a_region_are_no_zero() -> None:
    nothing = np.full((2, 2), BACKGROUND, np.int32)
    figures = mask_quality([(np.zeros((2, 2), np.uint8), [nothing])], boundary_tolerance=0.01)
    assert figures.values == {}
    assert list(figures.skipped) == ["all photographs"]


def test_masks_grow_by_the_rule_that_training_reads_them_by() -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    grown = at_size(labels, 5, 7)
    expected = [[labels[(2 * r + 1) * 2 // 10, (2 * c + 1) * 3 // 14] for c in range(7)] for r in range(5)]
    np.testing.assert_array_equal(grown, expected)


def test_masks_of_weights_are_made_at_the_fixed_number_of_clusters() -> None:
    random = np.random.default_rng(0)
    photographs = [draw_scene(random, 96, 72) for _ in range(5)]
    backbone = Backbone("resnet18", seed=0)

    def masks(clusters: int) -> list[NDArray[np.uint8]]:
        made = masks_of(
            backbone, photographs, layers=["layer2.1"], clusters=clusters, images_per_group=4, max_side=64, seed=0
        )
        return list(made)

    four = masks(4)
    assert [labels.shape for labels in four] == [(6, 8)] * 5
    assert set(np.concatenate([labels.ravel() for labels in four[:4]]).tolist()) == {0, 1, 2, 3}
    assert max(labels.max() for labels in masks(7)) == 6
    assert all(np.array_equal(one, two) for one, two in zip(four, masks(4), strict=True))


def test_a_backbone_that_changes_meanwhile_is_noticed() -> None:
    backbone = Backbone("resnet18", seed=0)
    photographs = [draw_scene(np.random.default_rng(0), 64, 64)] * 2
    masks = masks_of(backbone, photographs, layers=["layer1"], clusters=2, images_per_group=1, max_side=64, seed=0)
    next(masks)
    backbone.conv1.weight.data[0, 0, 0, 0] += 1
    with pytest.raises(BackboneChangedError, match="conv1.weight"):
        list(masks)


@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no annotators")
def test_annotators_agree_on_their_photograph_and_not_across_photographs() -> None:
    """Covering between two annotators of one photograph against that between annotators of two photographs."""
    assert SAMPLES is not None
    folder = Path(SAMPLES) / "bsds500" / "ground_truth" / "val"
    names = sorted({path.stem.rpartition("_")[0] for path in folder.glob("*.png")})
    maps = {
        name: [np.asarray(Image.open(folder / f"{name}_{k}.png")).astype(np.int32) for k in (0, 1)] for name in names
    }
    landscape = [name for name in names if maps[name][0].shape == (321, 481)]
    gains = []
    for name, other in zip(landscape, landscape[1:] + landscape[:1], strict=True):
        same = covering(contingency(maps[name][0], maps[name][1]))
        across = covering(contingency(maps[other][0], maps[name][1]))
        gains.append(same - across)
    assert len(gains) > 50
    assert np.mean(gains) > 0.15
    assert np.mean(np.array(gains) > 0) >= 0.95

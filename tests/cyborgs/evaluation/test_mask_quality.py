"""Mask quality against references written from the definitions, pixel by pixel, and on what people drew."""

import os
from collections import Counter
from math import dist, hypot, log2
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cyborgs.evaluation.boundaries import BoundaryCounts, boundary_counts
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


def random_truth(random: np.random.Generator, size: NDArray[np.int64]) -> Map:
    """Regions in coarse blocks: some void, some background, of any few labels."""
    coarse = random.integers(0, random.integers(2, 7), (3, 3))
    truth = coarse[np.arange(size[0])[:, None] * 3 // size[0], np.arange(size[1]) * 3 // size[1]].astype(np.int32)
    truth[random.random(size) < 0.1] = VOID
    truth[0, 0] = 1
    return truth


def random_maps(seed: int) -> tuple[Map, Map, Map]:
    """Predicted regions of one photograph, and those of two annotators."""
    random = np.random.default_rng(seed)
    size = random.integers(4, 13, 2)
    truths = random_truth(random, size), random_truth(random, size)
    return random.integers(0, random.integers(1, 9), size).astype(np.int32), *truths


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


def reference_boundary_counts(predicted: Map, truths: list[Map], tolerance: float) -> BoundaryCounts:
    height, width = predicted.shape
    reach = tolerance * hypot(height, width)
    pixels = [(r, c) for r in range(height) for c in range(width)]

    def edges(labels: Map) -> list[tuple[int, int]]:
        return [
            (r, c)
            for r, c in pixels
            if (r + 1 < height and labels[r, c] != labels[r + 1, c])
            or (c + 1 < width and labels[r, c] != labels[r, c + 1])
        ]

    def known(truth: Map, point: tuple[int, int]) -> bool:
        return all(truth[each] != VOID or dist(point, each) > reach + 1 for each in pixels)

    found = [point for point in edges(predicted) if any(known(truth, point) for truth in truths)]
    drawn = [[point for point in edges(truth) if known(truth, point)] for truth in truths]
    right = sum(
        any(
            known(truth, point) and any(dist(point, each) <= reach for each in theirs)
            for truth, theirs in zip(truths, drawn, strict=True)
        )
        for point in found
    )
    true = [point for theirs in drawn for point in theirs]
    met = sum(any(dist(point, each) <= reach for each in edges(predicted)) for point in true)
    return BoundaryCounts(len(found), right, len(true), met)


@pytest.mark.parametrize("seed", range(100))
def test_independent_references_on_random_label_maps(seed: int) -> None:
    predicted, truth, other = random_maps(seed)
    counts = contingency(predicted, truth)
    best = reference_best(predicted, truth)
    np.testing.assert_allclose(best_iou(counts), [best[region] for region in sorted(best)])
    sizes = {region: int((truth == region).sum()) for region in best}
    expected = sum(sizes[region] * best[region] for region in best) / sum(sizes.values())
    assert covering(counts) == pytest.approx(expected)
    assert variation_of_information(counts[0]) == pytest.approx(reference_information(predicted, truth), abs=1e-12)
    for tolerance in (0.05, 0.2):
        for truths in ([truth], [truth, other]):
            measured = boundary_counts(predicted, truths, tolerance=tolerance, void=VOID)
            assert measured == reference_boundary_counts(predicted, truths, tolerance)


def test_boundary_f_by_hand() -> None:
    """8 of 10 predicted pixels are right, and of 30 true ones 20 are met: P 0.8, R 2/3; sums, not a mean of F."""
    counts = BoundaryCounts(4, 4, 10, 10) + BoundaryCounts(6, 4, 20, 10)
    assert counts.f_measure == pytest.approx(2 * 0.8 * (2 / 3) / (0.8 + 2 / 3))
    assert BoundaryCounts().f_measure == 1
    assert BoundaryCounts(found=3).f_measure == BoundaryCounts(true=3).f_measure == 0


@pytest.mark.parametrize("seed", range(10))
def test_perfect_masks_score_100_whatever_they_are_called(seed: int) -> None:
    _, truth, _ = random_maps(seed)
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


def test_batch_norm_statistics_of_the_measured_photographs_change_the_masks_and_not_the_backbone() -> None:
    random = np.random.default_rng(0)
    photographs = [draw_scene(random, 96, 72) for _ in range(4)]
    backbone = Backbone("resnet18", seed=0)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    made = [
        list(
            masks_of(
                backbone, photographs, layers=["layer2.1"], clusters=4, images_per_group=2, max_side=64, seed=0,
                refresh_batch_norm=groups,
            )
        )
        for groups in (0, 1, 2)
    ]  # fmt: skip
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert not all(np.array_equal(a, b) for a, b in zip(made[one], made[two], strict=True))
    assert all(tensor.equal(before[name]) for name, tensor in backbone.state_dict().items())


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

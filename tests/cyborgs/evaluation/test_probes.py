"""The classifiers on top of frozen features: SVM, regions, pixels, neighbours."""

from math import exp

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score
from torch.nn import functional as F

from cyborgs.evaluation.cocostuff_linear import Probe, cocostuff_linear, mean_iou, positions
from cyborgs.evaluation.knn import vote
from cyborgs.evaluation.region_linear import RegionSample, macro_f1, pool_masks, region_linear
from cyborgs.evaluation.voc07_svm import svm_map
from cyborgs.networks.backbone import Backbone


def separable(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors whose first two numbers say which of two classes are present."""
    random = np.random.default_rng(seed)
    labels = np.where(random.random((count, 2)) < 0.5, 1, -1).astype(np.int8)
    features = np.hstack([labels * 2.0, random.normal(0, 0.1, (count, 6))]).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True), labels


def test_svm_scores_100_where_features_tell_the_classes() -> None:
    train, test = separable(60, 0), separable(40, 1)
    found = svm_map(*train, *test, classes=["a", "b"], costs=[0.01, 0.1, 1, 10], folds=3, seed=0)
    assert found.values["map"] == found.values["ap_a"] == found.values["ap_b"] == 100
    assert found.skipped == {}


def test_svm_is_at_chance_where_they_do_not() -> None:
    random = np.random.default_rng(0)
    train, test = (random.normal(size=(n, 8)).astype(np.float32) for n in (100, 400))
    labels = [np.where(random.random((n, 1)) < 0.3, 1, -1).astype(np.int8) for n in (100, 400)]
    found = svm_map(train, labels[0], test, labels[1], classes=["a"], costs=[1], folds=3, seed=0)
    assert 20 < found.values["map"] < 42


def test_svm_chooses_the_cost_by_cross_validation() -> None:
    """With noise on few photographs, a small C generalises and a huge one does not: alone, it is the worse choice."""
    random = np.random.default_rng(3)

    def noisy(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.where(random.random((count, 1)) < 0.5, 1, -1).astype(np.int8)
        return np.hstack([labels * 0.25 + random.normal(0, 1, (count, 40))]).astype(np.float32), labels

    train, test = noisy(60), noisy(2000)
    alone = {
        cost: svm_map(*train, *test, classes=["a"], costs=[cost], folds=3, seed=0).values["map"] for cost in (1e-4, 1e3)
    }
    assert alone[1e-4] > alone[1e3] + 1
    both = svm_map(*train, *test, classes=["a"], costs=[1e3, 1e-4], folds=3, seed=0).values["map"]
    assert both == alone[1e-4]


def test_svm_skips_classes_that_cannot_be_learnt_or_measured() -> None:
    features, labels = separable(30, 0)
    rare = np.full((30, 1), -1, np.int8)
    rare[:2] = 1
    absent, learnt = np.full((30, 1), -1, np.int8), np.hstack([labels, rare, labels[:, :1]])
    found = svm_map(
        features, learnt, features, np.hstack([labels, rare, absent]),
        classes=["a", "b", "rare", "absent"], costs=[1], folds=3, seed=0,
    )  # fmt: skip
    assert set(found.skipped) == {"class rare", "class absent"}
    assert "2 photographs" in found.skipped["class rare"]
    assert found.values["classes"] == 2
    assert found.values["map"] == 100


def test_ignored_photographs_teach_nothing() -> None:
    """As if they were not there, whatever they show."""
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 8)).astype(np.float32), separable(60, 0)[1]
    ignored = labels.copy()
    ignored[:20] = 0
    common = {"classes": ["a", "b"], "costs": [0.1, 10], "folds": 3, "seed": 0}
    test = separable(200, 1)
    with_them = svm_map(features, ignored, *test, **common)
    assert with_them == svm_map(features[20:], labels[20:], *test, **common)
    assert with_them != svm_map(features, labels, *test, **common)


def test_regions_are_pooled_by_how_much_of_them_lies_in_a_cell() -> None:
    features = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, :3] = True  # two pixels in the first cell, one in the second
    expected = (2 * features[:, 0, 0] + features[:, 0, 1]) / 3
    torch.testing.assert_close(pool_masks(features, mask)[0], expected)
    speck = torch.zeros(1, 7, 5, dtype=torch.bool)  # smaller than a cell, and cells that do not divide the photograph
    speck[0, 6, 4] = True
    torch.testing.assert_close(pool_masks(features, speck)[0], features[:, 1, 1])


def test_macro_f1_over_the_true_classes() -> None:
    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 4, 50), random.integers(0, 6, 50)
    expected = f1_score(true, predicted, labels=np.unique(true), average="macro", zero_division=0)
    assert macro_f1(predicted, true) == pytest.approx(expected)
    assert macro_f1(true, true) == 1


def coloured_region(colour: int, place: int) -> RegionSample:
    colours = ["red", "lime", "blue"]
    image, mask = Image.new("RGB", (64, 64), "grey"), np.zeros((64, 64), bool)
    box = (8 * place, 0, 8 * place + 32, 64)
    image.paste(colours[colour], box)
    mask[:, box[0] : box[2]] = True
    return RegionSample(image, [mask], [colour + 10])


def test_regions_of_plain_colours_are_told_apart_and_unseen_classes_count_as_wrong() -> None:
    train = [coloured_region(colour, place) for colour in (0, 1) for place in (0, 1, 2, 3)]
    test = [coloured_region(colour, place) for colour in (0, 1, 2) for place in (4, 2)]
    arguments = {
        "names": {10: "red", 11: "lime", 12: "blue"},
        "layers": ["layer1"],
        "max_side": 64,
        "penalty": 1.0,
        "iterations": 500,
    }
    backbone = Backbone("resnet18", seed=0)
    seen = region_linear(backbone, train, test[:4], **arguments)
    assert seen.values["accuracy"] == seen.values["macro_f1"] == 100
    assert seen.skipped == {}
    all_three = region_linear(backbone, train, test, **arguments)
    assert all_three.values["accuracy"] == pytest.approx(100 * 4 / 6)
    assert all_three.values["macro_f1"] < 100 * 2 / 3
    assert list(all_three.skipped) == ["class blue"]


def test_classifying_cells_then_interpolating_is_the_protocol_to_the_letter() -> None:
    """Features brought to the photograph's size, then a 1x1 convolution at every pixel."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 4, 6, generator=generator)
    probe = Probe(torch.randn(5, generator=generator), torch.rand(5, generator=generator) + 0.5, 3)
    full = F.interpolate(features, (31, 45), mode="bilinear", align_corners=False)
    expected = probe.convolution((full - probe.mean) / probe.std)
    torch.testing.assert_close(probe(features, 31, 45), expected)


def test_mean_iou_against_an_independent_one_and_with_unseen_classes() -> None:
    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 4, 500), random.integers(0, 5, 500)
    counts = np.zeros((6, 5), np.int64)
    np.add.at(counts, (true, predicted), 1)
    expected = jaccard_score(true, predicted, labels=np.unique(true), average=None)
    assert mean_iou(counts) == pytest.approx(expected.mean())
    assert mean_iou(counts, unseen=2) == pytest.approx(expected.sum() / 6)
    perfect = np.vstack([np.diag([5, 0, 7]), np.zeros((1, 3))]).astype(np.int64)
    assert mean_iou(perfect) == 1


def test_positions_of_classes() -> None:
    labels = np.array([[-1, 3, 9], [5, 200, 4]])
    np.testing.assert_array_equal(positions(labels, np.array([3, 5, 9])), [[-1, 0, 2], [1, -1, -1]])
    np.testing.assert_array_equal(positions(labels, np.array([3, 5, 9]), unseen=3), [[-1, 0, 2], [1, 3, 3]])


def test_pixels_of_plain_colours_are_told_apart() -> None:
    def scene(left: int, width: int) -> tuple[Image.Image, np.ndarray]:
        image, labels = Image.new("RGB", (96, 64), "lime"), np.full((64, 96), 4, np.int32)
        image.paste("red", (left, 0, left + width, 64))
        labels[:, left : left + width] = 9
        labels[:4] = -1
        return image, labels

    train, test = [scene(left, 40) for left in (0, 8, 24, 40, 56)], [scene(16, 48), scene(40, 32)]
    arguments = {
        "layers": ["layer1"], "max_side": 96, "epochs": 30, "learning_rate": 0.05, "weight_decay": 0.0,
        "batch_size": 2, "seed": 0,
    }  # fmt: skip
    found = cocostuff_linear(Backbone("resnet18", seed=0), train, test, **arguments)
    assert found.values["miou"] > 85
    assert found.values["pixel_accuracy"] > 90
    again = cocostuff_linear(Backbone("resnet18", seed=0), train, test, **arguments)
    assert again.values == found.values
    strange = [(image, np.where(labels == 9, 7, labels)) for image, labels in test]
    unseen = cocostuff_linear(Backbone("resnet18", seed=0), train, strange, **arguments)
    assert list(unseen.skipped) == ["class 7"]
    assert unseen.values["miou"] < 50


def test_classes_are_predicted_a_few_at_a_time_as_all_at_once() -> None:
    torch.manual_seed(0)
    probe = Probe(torch.zeros(8), torch.ones(8), 37)
    features = torch.randn(1, 8, 5, 7)
    with torch.no_grad():
        expected = probe(features, 33, 50)[0].argmax(dim=0)
    assert probe.predict(features, 33, 50).equal(expected)
    assert len(expected.unique()) > 20


def test_votes_against_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    known, asked = (F.normalize(torch.tensor(random.normal(size=(n, 4))), dim=1) for n in (30, 12))
    classes = torch.tensor(random.integers(0, 3, 30))
    for k in (1, 5, 30):
        expected = []
        for point in asked:
            similarities = sorted(((float(point @ other), int(c)) for other, c in zip(known, classes, strict=True)))
            votes = [0.0, 0.0, 0.0]
            for similarity, number in similarities[-k:]:
                votes[number] += exp(similarity / 0.07)
            expected.append(votes.index(max(votes)))
        assert vote(known, classes, asked, neighbours=k, temperature=0.07).tolist() == expected


def test_a_photograph_is_its_own_nearest_neighbour() -> None:
    points = F.normalize(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    classes = torch.arange(20) % 4
    assert vote(points, classes, points, neighbours=1, temperature=0.07).equal(classes)
    # At a low temperature the nearest outvotes all others.
    assert vote(points, classes, points, neighbours=20, temperature=0.001).equal(classes)

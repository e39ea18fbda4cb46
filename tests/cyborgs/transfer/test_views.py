"""Views for fine-tuning: labels and boxes stay on what they name."""

import numpy as np
import pytest
import torch
from PIL import Image

from cyborgs.transfer.detection_views import DetectionSample, draw_detection
from cyborgs.transfer.segmentation_views import VOID, SegmentationViews, distort

VIEWS = SegmentationViews(long_side=120, short_side=60, ratio=(0.5, 2.0), crop=40)


def scene() -> tuple[Image.Image, np.ndarray]:
    """Red where the class is 1, blue where it is 2, green and void in between."""
    labels = np.full((60, 120), VOID, np.int32)
    labels[:, :50], labels[:, 70:] = 1, 2
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[labels == 1], pixels[labels == 2], pixels[labels == VOID] = (250, 0, 0), (0, 0, 250), (0, 250, 0)
    return Image.fromarray(pixels), labels


def test_labels_stay_on_their_pixels_and_the_rest_is_void() -> None:
    sample, kinds = scene(), set()
    for seed in range(40):
        image, labels = VIEWS.draw(sample, np.random.default_rng(seed))
        assert (image.shape, image.dtype, labels.shape, labels.dtype) == (
            (3, 40, 40),
            torch.uint8,
            (40, 40),
            torch.int64,
        )
        # Away from edges, where interpolation mixes, the strongest channel names the class, whatever the colours do
        # but turn: hue moves by a tenth of the circle at most.
        strongest = image.float().argmax(dim=0)
        for number, channel in ((1, 0), (2, 2)):
            inside = labels == number
            if inside.sum() > 100:
                assert (strongest[inside] == channel).float().mean() > 0.8, seed
                kinds.add(number)
        lit = image.sum(dim=0) > 0
        assert (labels[~lit] == VOID).float().mean() > 0.95 if (~lit).any() else True
    assert kinds == {1, 2}


def test_a_photograph_is_measured_at_the_largest_size_that_fits() -> None:
    assert VIEWS.measured(Image.new("RGB", (400, 100))).size == (120, 30)
    assert VIEWS.measured(Image.new("RGB", (100, 100))).size == (60, 60)
    assert VIEWS.measured(Image.new("RGB", (30, 90))).size == (40, 120)


def test_crops_avoid_a_single_class() -> None:
    """Half of a photograph is each class: of many crops few show one alone, where ten tries could find both."""
    labels = np.repeat(np.array([[0] * 60 + [1] * 60], np.int32), 60, axis=0)
    views = SegmentationViews(long_side=120, short_side=60, ratio=(1.0, 1.0), crop=40)
    alone = 0
    for seed in range(60):
        _, drawn = views.draw((Image.new("RGB", (120, 60), "gray"), labels), np.random.default_rng(seed))
        alone += len(torch.unique(drawn[drawn != VOID])) == 1
    assert alone <= 3


def test_colours_change_by_half_a_chance_within_their_bounds() -> None:
    image = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    levels = [distort(image, np.random.default_rng(seed)).float().mean().item() for seed in range(300)]
    assert levels.count(100.0) / 300 == pytest.approx(
        1 / 4, abs=0.08
    )  # neither brightness nor contrast; grey has no hue
    assert min(levels) >= (100 - 32) * 0.5 - 1 and max(levels) <= (100 + 32) * 1.5 + 1
    assert distort(image, np.random.default_rng(5)).equal(distort(image, np.random.default_rng(5)))


def test_boxes_and_masks_are_mirrored_with_the_photograph() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[5:9, 2:12] = 255
    masks = np.zeros((1, 20, 30), np.uint8)
    masks[0, 5:9, 2:12] = 1
    sample = DetectionSample(Image.fromarray(pixels), np.array([[2, 5, 12, 9]], np.float32), np.array([3]), masks)
    seen = set()
    for seed in range(10):
        image, target = draw_detection(sample, np.random.default_rng(seed))
        left, top, right, below = (int(side) for side in target["boxes"][0])
        assert (image[0] > 0).equal(target["masks"][0] > 0)
        assert bool((image[:, top:below, left:right] == 255).all())
        assert int((image[0] > 0).sum()) == (below - top) * (right - left)
        assert target["labels"].tolist() == [3]
        seen.add(left)
    assert seen == {2, 18}


def test_a_photograph_without_objects() -> None:
    empty = DetectionSample(Image.new("RGB", (8, 6)), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    _, target = draw_detection(empty, np.random.default_rng(0))
    assert target["boxes"].shape == (0, 4)
    assert "masks" not in target

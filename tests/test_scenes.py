"""The synthetic scenes, and how masks are held against them."""

import numpy as np
import pytest

from tests.scenes import make_scenes, mean_best_iou


def test_scenes_come_from_their_seed() -> None:
    first, again, other = (make_scenes(3, seed=seed) for seed in (5, 5, 6))
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(np.asarray(one.photograph), np.asarray(same.photograph))
        np.testing.assert_array_equal(one.regions, same.regions)
        assert not np.array_equal(np.asarray(one.photograph), np.asarray(different.photograph))


def test_every_scene_has_ground_and_objects() -> None:
    for scene in make_scenes(30, seed=0):
        assert scene.regions.shape == (128, 128)
        assert 1 <= scene.regions.max() <= 3
        assert (scene.regions == 0).mean() > 0.2


def test_the_true_map_fits_perfectly_and_a_single_label_does_not() -> None:
    """With two halves, one label for all overlaps each by a half; with the halves exchanged names do not matter."""
    scenes = make_scenes(4, seed=1)
    assert mean_best_iou([200 - scene.regions for scene in scenes], scenes) == 1
    scenes[0].regions[:] = np.arange(128)[:, None] // 64
    assert mean_best_iou([np.zeros((4, 4), np.uint8)], scenes[:1]) == pytest.approx(0.5)
    assert mean_best_iou([np.array([[9], [3]], np.uint8)], scenes[:1]) == 1
    assert mean_best_iou([np.array([[1], [1], [1], [2]], np.uint8)], scenes[:1]) == pytest.approx((2 / 3 + 1 / 2) / 2)

"""Matched cells show the same place of the photograph, proven by pushing coordinates through the real crop."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cyborgs.augmentation.crop import Crop, draw_crop
from cyborgs.augmentation.views import cut
from cyborgs.regions.correspondence import cell_centres, geometric_matches, index_matches
from tests.cyborgs.references import Floats

TALL, WIDE = 150, 210
SIZE = 60


def _boxes(*crops: Crop) -> Tensor:
    return torch.tensor([crop.box((TALL, WIDE)) for crop in crops], dtype=torch.float64)


def _places(crop: Crop, grid: int, size: int = SIZE) -> Floats:
    """Where each cell of a view comes from, in pixels of the photograph: (grid * grid, 2) of row and column."""
    ramps = np.zeros((TALL, WIDE, 3), np.uint8)  # grey levels that say where a pixel is
    ramps[..., 0], ramps[..., 1] = np.mgrid[0:TALL, 0:WIDE]
    view = np.asarray(cut(Image.fromarray(ramps), crop, size))[..., :2]
    side = size // grid
    return view.reshape(grid, side, grid, side, 2).mean(axis=(1, 3)).reshape(-1, 2) + 0.5


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("grid", [3, 12])
def test_matches_show_the_same_place_within_half_a_cell(seed: int, grid: int) -> None:
    random = np.random.default_rng(seed)
    one, two = (
        draw_crop((TALL, WIDE), area=(0.2, 0.9), ratio=(0.75, 4 / 3), flip_probability=0.5, random=random)
        for _ in range(2)
    )
    matches = geometric_matches(_boxes(one), _boxes(two), grid, grid)[0].numpy()
    places, others = _places(one, grid), _places(two, grid)
    half = np.array([two.height, two.width]) / grid / 2
    slack = 1.0  # pixels: bicubic weights are cut off at the borders
    for place, match in zip(places, matches, strict=True):
        away = np.abs(others - place) / (half + slack)
        if match >= 0:
            assert away[match].max() <= 1
        else:
            # Nothing of the other view covers this place.
            assert (np.abs(others - place) > half - slack).any(axis=1).all()


def test_overlap_is_found() -> None:
    """Half of each view lies in the other: half of the cells have a match, shifted by two columns."""
    left, right = Crop(0, 0, 80, 80, flip=False), Crop(0, 40, 80, 80, flip=False)
    matches = geometric_matches(_boxes(left), _boxes(right), 4, 4).reshape(4, 4)
    expected = [[-1, -1, 4 * row, 4 * row + 1] for row in range(4)]
    assert matches.tolist() == expected


def test_overlap_is_found_from_top_to_bottom() -> None:
    """The upper view's lower half is the lower view's upper half; beyond it there is nothing, in either direction."""
    upper, lower = Crop(0, 0, 80, 80, flip=False), Crop(40, 0, 80, 80, flip=False)
    down = geometric_matches(_boxes(upper), _boxes(lower), 4, 4)[0]
    up = geometric_matches(_boxes(lower), _boxes(upper), 4, 4)[0]
    assert down.tolist() == [-1] * 8 + list(range(8))
    assert up.tolist() == list(range(8, 16)) + [-1] * 8


def test_a_flipped_twin_is_mirrored() -> None:
    crop, mirrored = Crop(10, 20, 60, 90, flip=False), Crop(10, 20, 60, 90, flip=True)
    expected = torch.arange(20).reshape(4, 5).flip(1).flatten()
    assert geometric_matches(_boxes(crop), _boxes(mirrored), 4, 5)[0].equal(expected)
    assert geometric_matches(_boxes(mirrored), _boxes(crop), 4, 5)[0].equal(expected)
    assert geometric_matches(_boxes(mirrored), _boxes(mirrored), 4, 5)[0].equal(torch.arange(20))


def test_no_overlap_no_match() -> None:
    one, two = Crop(0, 0, 50, 50, flip=False), Crop(60, 100, 50, 50, flip=True)
    assert (geometric_matches(_boxes(one), _boxes(two), 5, 5) == -1).all()


def test_images_of_a_batch_are_matched_on_their_own() -> None:
    crops = [Crop(3, 7, 70, 60, flip=False), Crop(40, 50, 90, 100, flip=True), Crop(0, 90, 120, 110, flip=False)]
    together = geometric_matches(_boxes(*crops), _boxes(*crops[::-1]), 6, 6)
    for number in range(3):
        alone = geometric_matches(_boxes(crops[number]), _boxes(crops[2 - number]), 6, 6)
        assert together[number].equal(alone[0])


def test_cell_centres_by_hand() -> None:
    """A flipped crop over the right half: its first column shows the photograph's right edge."""
    boxes = torch.tensor([[0.0, 0.5, 1.0, 0.5, 1.0]], dtype=torch.float64)
    v, u = cell_centres(boxes, 2, 2)
    assert v.tolist() == [[0.25, 0.75]]
    assert u.tolist() == [[0.875, 0.625]]


def test_index_mode_matches_each_cell_with_its_own_index() -> None:
    assert index_matches(3, 2, 5, device=torch.device("cpu")).tolist() == [list(range(10))] * 3


def test_ten_thousand_pairs_of_crops() -> None:
    """A coordinate ramp through the real crop, resize and flip: matched cells lie within half a cell of each other.

    Half a cell of the other view along each axis, and cells without a match further than that from all of them.
    """
    random, grid, size = np.random.default_rng(0), 4, 16
    crops, places = [], []
    for _ in range(20_000):
        crop = draw_crop((TALL, WIDE), area=(0.2, 0.9), ratio=(0.75, 4 / 3), flip_probability=0.5, random=random)
        crops.append(crop)
        places.append(_places(crop, grid, size))
    boxes = _boxes(*crops)
    matches = geometric_matches(boxes[::2], boxes[1::2], grid, grid).numpy()
    own, other = np.stack(places[::2]), np.stack(places[1::2])
    half = np.array([[crop.height, crop.width] for crop in crops[1::2]]) / grid / 2
    away = np.abs(own[:, :, None] - other[:, None]) / half[:, None, None]  # (pairs, cells, cells, 2)
    nearest = np.take_along_axis(away, matches.clip(min=0)[:, :, None, None], axis=2)[:, :, 0]
    rounding = 0.05  # places are whole grey levels, and bicubic weights are cut off at the crop's edge
    assert matches.shape == (10_000, grid * grid)
    assert 0.2 < (matches >= 0).mean() < 0.9
    assert nearest[matches >= 0].max() <= 1 + rounding
    assert away.max(axis=3).min(axis=2)[matches < 0].min() >= 1 - rounding

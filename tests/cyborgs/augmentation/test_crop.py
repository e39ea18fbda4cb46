"""Where views are cut: shares of area and shape, places, flips."""

import math

import numpy as np
import pytest

from cyborgs.augmentation.crop import Crop, draw_crop

COUNT = 4000


def _draw(size: tuple[int, int], count: int = COUNT, *, seed: int = 0, **settings: object) -> list[Crop]:
    random = np.random.default_rng(seed)
    ranges = {"area": (0.1, 0.5), "ratio": (3 / 4, 4 / 3), "flip_probability": 0.5} | settings
    return [draw_crop(size, random=random, **ranges) for _ in range(count)]  # type: ignore[arg-type]


def test_area_is_uniform_over_its_range() -> None:
    """In a photograph in which every shape fits: mean 0.3 and standard deviation 0.4 / sqrt 12 of the share."""
    shares = np.array([crop.height * crop.width / 1e6 for crop in _draw((1000, 1000))])
    assert shares.min() > 0.099
    assert shares.max() < 0.501
    deviation = 0.4 / math.sqrt(12)
    assert abs(shares.mean() - 0.3) < 4 * deviation / math.sqrt(COUNT)
    assert shares.std() == pytest.approx(deviation, rel=0.05)


def test_shape_is_uniform_in_its_logarithm() -> None:
    """So tall and wide crops are equally frequent: the mean logarithm is 0, not that of the mean ratio."""
    shapes = np.log([crop.width / crop.height for crop in _draw((1000, 1000))])
    limit = math.log(4 / 3)
    assert np.abs(shapes).max() < limit + 0.01
    deviation = 2 * limit / math.sqrt(12)
    assert abs(shapes.mean()) < 4 * deviation / math.sqrt(COUNT)
    assert shapes.std() == pytest.approx(deviation, rel=0.05)


def test_place_is_uniform_and_reaches_both_borders() -> None:
    crops = _draw((12, 14), area=(0.4, 0.5))
    for low, high, extent in (
        ([c.top for c in crops], [c.top + c.height for c in crops], 12),
        ([c.left for c in crops], [c.left + c.width for c in crops], 14),
    ):
        assert min(low) == 0
        assert max(high) == extent
        assert np.mean(low) == pytest.approx(extent - np.mean(high), abs=0.2)


@pytest.mark.parametrize("size", [(480, 640), (33, 500), (500, 33), (1, 1), (3, 2)])
def test_crops_lie_inside(size: tuple[int, int]) -> None:
    for crop in _draw(size, 300, area=(0.08, 1.0)):
        assert crop.height > 0
        assert crop.width > 0
        assert crop.top >= 0
        assert crop.left >= 0
        assert crop.top + crop.height <= size[0]
        assert crop.left + crop.width <= size[1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((30, 1000), Crop(0, 480, 30, 40, flip=False)),  # too wide: 4/3 of the height, in the middle
        ((1000, 30), Crop(480, 0, 40, 30, flip=False)),  # too tall: width over 3/4
    ],
)
def test_what_does_not_fit_is_cut_from_the_middle(size: tuple[int, int], expected: Crop) -> None:
    assert _draw(size, 1, area=(0.9, 1.0), flip_probability=0.0) == [expected]


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flips_are_as_frequent_as_asked(probability: float) -> None:
    share = np.mean([crop.flip for crop in _draw((50, 50), flip_probability=probability)])
    assert abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / COUNT)


def test_whole_photograph() -> None:
    assert _draw((40, 40), 1, area=(1.0, 1.0), ratio=(1.0, 1.0), flip_probability=0.0) == [
        Crop(0, 0, 40, 40, flip=False)
    ]


def test_box_is_in_units_of_the_photograph() -> None:
    assert Crop(10, 30, 20, 60, flip=True).box((100, 120)) == (0.1, 0.25, 0.2, 0.5, 1.0)

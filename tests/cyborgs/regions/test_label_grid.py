"""A view's label grid: nearest-neighbour labels at pixel centres, then the majority in each cell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cyborgs.augmentation.crop import Crop, draw_crop
from cyborgs.regions.label_grid import crop_labels, sample_lines
from tests.cyborgs.references import majority_grid


@pytest.mark.parametrize("seed", range(30))
def test_majority_of_the_nearest_labels(seed: int) -> None:
    """Random photographs of odd sizes, random crops and flips, few labels so that ties are common."""
    random = np.random.default_rng(seed)
    image_size = int(random.integers(17, 121)), int(random.integers(17, 121))
    shape = int(random.integers(1, 16)), int(random.integers(1, 16))
    labels = random.choice(random.integers(0, 256, size=4), size=shape).astype(np.uint8)
    grid = int(random.integers(1, 7))
    size = grid * int(random.integers(1, 7))
    crop = draw_crop(image_size, area=(0.05, 1.0), ratio=(0.75, 4 / 3), flip_probability=0.5, random=random)
    found = crop_labels(labels, image_size=image_size, crop=crop, size=size, grid=grid)
    expected = majority_grid(labels, image_size=image_size, crop=crop, size=size, grid=grid)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_ties_go_to_the_lowest_label() -> None:
    labels = np.array([[9, 3], [3, 9]], np.uint8)
    found = crop_labels(labels, image_size=(8, 8), crop=Crop(0, 0, 8, 8, flip=False), size=8, grid=1)
    assert found.tolist() == [[3]]


def test_majority_beats_a_lower_label() -> None:
    labels = np.array([[9, 9], [3, 9]], np.uint8)
    found = crop_labels(labels, image_size=(8, 8), crop=Crop(0, 0, 8, 8, flip=False), size=8, grid=1)
    assert found.tolist() == [[9]]


def test_whole_photograph_on_its_own_grid_is_the_map_itself() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = crop_labels(labels, image_size=(160, 320), crop=Crop(0, 0, 160, 320, flip=False), size=64, grid=16)
    np.testing.assert_array_equal(found, labels)


def test_flip_mirrors_the_grid() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 256, size=(11, 7), dtype=np.uint8)
    plain, mirrored = (
        crop_labels(labels, image_size=(97, 61), crop=Crop(13, 5, 60, 40, flip=flip), size=30, grid=5)
        for flip in (False, True)
    )
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_rows_and_columns_are_not_confused() -> None:
    """A crop of the lower left quarter sees the label that lies there."""
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    found = crop_labels(labels, image_size=(40, 80), crop=Crop(20, 0, 20, 40, flip=False), size=12, grid=3)
    assert (found == 3).all()


def test_a_centre_on_the_boundary_belongs_to_the_next_line() -> None:
    """Pixel 1 of 3 has its centre at u = 1.5 of an image of 3: with two lines that is exactly the boundary."""
    assert sample_lines(start=0, length=3, size=3, extent=3, cells=2).tolist() == [0, 1, 1]


def test_lines_stay_in_the_image_and_never_go_back() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        extent = int(random.integers(1, 5000))
        length = int(random.integers(1, extent, endpoint=True))
        start = int(random.integers(0, extent - length, endpoint=True))
        cells = int(random.integers(1, 90))
        lines = sample_lines(start=start, length=length, size=224, extent=extent, cells=cells)
        assert lines.min() >= 0
        assert lines.max() < cells
        assert (np.diff(lines) >= 0).all()


def test_ten_thousand_crops() -> None:
    """Against the mode over a dense nearest-neighbour map; label maps on a feature grid and at image size."""
    random = np.random.default_rng(4)
    for number in range(10_000):
        image_size = int(random.integers(20, 200)), int(random.integers(20, 200))
        shape = image_size if number % 4 == 0 else (int(random.integers(1, 26)), int(random.integers(1, 26)))
        labels = random.integers(0, int(random.integers(2, 257)), size=shape).astype(np.uint8)
        crop = draw_crop(image_size, area=(0.08, 1.0), ratio=(0.75, 4 / 3), flip_probability=0.5, random=random)
        grid, side = int(random.integers(1, 8)), int(random.integers(1, 8))
        size = grid * side
        dense = labels[
            np.ix_(
                _nearest(crop.top, crop.height, size, image_size[0], shape[0], mirrored=False),
                _nearest(crop.left, crop.width, size, image_size[1], shape[1], mirrored=crop.flip),
            )
        ]
        cells = dense.reshape(grid, side, grid, side).transpose(0, 2, 1, 3).reshape(grid, grid, -1)
        present = np.unique(cells)
        expected = present[(cells[..., None] == present).sum(axis=2).argmax(axis=2)]  # the lowest of equals
        found = crop_labels(labels, image_size=image_size, crop=crop, size=size, grid=grid)
        assert np.array_equal(found, expected), (number, image_size, shape, crop, size, grid)


def _nearest(start: int, length: int, size: int, extent: int, cells: int, *, mirrored: bool) -> NDArray[np.int64]:
    """The map's line under each pixel of a view; a centre on a boundary belongs to the next line."""
    centres = (start + (np.arange(size) + 0.5) / size * length) / extent
    lines = np.floor(centres * cells + 1e-9).astype(np.int64)
    return lines[::-1] if mirrored else lines


def _pixel_by_pixel(
    labels: NDArray[np.uint8], *, image_size: tuple[int, int], crop: Crop, size: int, grid: int
) -> NDArray[np.uint8]:
    """All S x S pixels counted, each by itself."""
    rows = sample_lines(start=crop.top, length=crop.height, size=size, extent=image_size[0], cells=labels.shape[0])
    columns = sample_lines(start=crop.left, length=crop.width, size=size, extent=image_size[1], cells=labels.shape[1])
    columns = columns[::-1] if crop.flip else columns
    cell = np.arange(size) // (size // grid)
    cells = cell[:, None] * grid + cell[None, :]
    counts = np.bincount((cells * 256 + labels[rows[:, None], columns]).ravel(), minlength=grid * grid * 256)
    return counts.reshape(grid, grid, 256).argmax(axis=2).astype(np.uint8)


@pytest.mark.parametrize(("size", "grid"), [(224, 7), (96, 6), (224, 1), (224, 224), (1, 1)])
def test_counting_in_rectangles_is_counting_pixels(size: int, grid: int) -> None:
    """At the sizes of real runs; maps on a feature grid and at image size, few labels so that ties are common."""
    random = np.random.default_rng(size + grid)
    for number in range(30):
        image_size = int(random.integers(100, 641)), int(random.integers(100, 641))
        shape = image_size if number % 4 == 0 else (-(-image_size[0] // 8), -(-image_size[1] // 8))
        labels = random.integers(0, (2, 256)[number % 2], size=shape).astype(np.uint8)
        crop = draw_crop(image_size, area=(0.08, 1.0), ratio=(0.75, 4 / 3), flip_probability=0.5, random=random)
        found = crop_labels(labels, image_size=image_size, crop=crop, size=size, grid=grid)
        expected = _pixel_by_pixel(labels, image_size=image_size, crop=crop, size=size, grid=grid)
        assert np.array_equal(found, expected), (number, image_size, shape, crop)

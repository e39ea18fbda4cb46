"""Figures of masks without annotations, on pictures whose best masks are known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cyborgs.evaluation.mask_health import edge_agreement, effective_regions, size_entropy

CELL = 8
"""Pixels along each side of a cell."""
CELLS = 24


def discs(seed: int, *, shift: int = 0) -> NDArray[np.uint8]:
    """(24, 24) labels: three discs on a ground, moved to the right by some cells, around the edge."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:CELLS, 0:CELLS]
    labels = np.zeros((CELLS, CELLS), np.uint8)
    for number in (1, 2, 3):
        row, column, radius = random.uniform(4, 20), random.uniform(4, 20), random.uniform(2, 5)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = number
    return np.roll(labels, shift, axis=1)


def picture(seed: int) -> Image.Image:
    """Those discs, each of a grey of its own, 8 pixels a cell, with noise."""
    greys = np.array([60, 200, 120, 240])[discs(seed)]
    noise = np.random.default_rng(seed).normal(0, 10, (CELLS * CELL, CELLS * CELL))
    pixels = np.kron(greys, np.ones((CELL, CELL))) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([12], 0), ([6, 6], 1), ([3, 3, 3, 3], 2), ([6, 3, 3], 1.5), ([9, 3], 2 - 0.75 * math.log2(3))],
)
def test_entropy_of_shares_by_hand(sizes: list[int], expected: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.uint8).reshape(3, 4)
    assert size_entropy(labels) == pytest.approx(expected)
    assert size_entropy(200 - labels) == pytest.approx(expected), "names do not matter"
    assert effective_regions(labels) == pytest.approx(2**expected)


def test_borders_on_edges_are_told_from_borders_beside_them() -> None:
    fitting = [edge_agreement(picture(seed), discs(seed)) for seed in range(8)]
    beside = [edge_agreement(picture(seed), discs(seed, shift=CELLS // 2)) for seed in range(8)]
    assert all(each is not None for each in (*fitting, *beside))
    assert min(each for each in fitting if each is not None) > 2
    assert np.mean([each for each in beside if each is not None]) == pytest.approx(1, abs=0.35)


def test_a_gradient_by_hand() -> None:
    """A step of 90 between two columns of four: Scharr gives 45 in both columns beside it, 0 elsewhere."""
    pixels = np.repeat(np.array([[10, 10, 100, 100]], np.uint8), 4, axis=0)
    image = Image.fromarray(np.kron(pixels, np.ones((CELL, CELL), np.uint8)))
    beside_the_step = np.array([[0, 0, 1, 1]] * 4, np.uint8)
    left_of_it = np.array([[0, 1, 1, 1]] * 4, np.uint8)
    assert edge_agreement(image, beside_the_step) == pytest.approx(2)
    assert edge_agreement(image, left_of_it) == pytest.approx(1), "one of its two columns has the gradient"


def test_rows_and_columns_are_not_mixed_up() -> None:
    """A picture that is wider than high, an edge from left to right."""
    pixels = np.zeros((4 * CELL, 8 * CELL), np.uint8)
    pixels[2 * CELL :] = 200
    along, across = np.zeros((2, 4, 8), np.uint8)
    along[2:] = 1
    across[:, 4:] = 1
    assert edge_agreement(Image.fromarray(pixels), along) == pytest.approx(2)
    assert edge_agreement(Image.fromarray(pixels), across) == pytest.approx(1)


def test_every_cell_at_a_border_says_nothing() -> None:
    labels = np.indices((CELLS, CELLS)).sum(axis=0) % 2
    assert edge_agreement(picture(0), labels.astype(np.uint8)) == pytest.approx(1)


def test_without_a_border_or_an_edge_there_is_no_figure() -> None:
    assert edge_agreement(picture(0), np.full((CELLS, CELLS), 7, np.uint8)) is None
    assert edge_agreement(picture(0), np.zeros((1, 1), np.uint8)) is None
    assert edge_agreement(Image.new("RGB", (CELLS * CELL, CELLS * CELL), (90, 90, 90)), discs(0)) is None

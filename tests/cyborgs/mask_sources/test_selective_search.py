"""Selective search: one seed, one set of masks, whatever the process did before."""

import numpy as np
import pytest
from PIL import Image

from cyborgs.mask_sources.selective_search import painted, ranked, search_boxes
from schemas import extras


def coloured(seed: int) -> Image.Image:
    """A photograph of 24 rectangles of random colours and places: (72, 96)."""
    random = np.random.default_rng(seed)
    pixels = np.full((72, 96, 3), 128, np.uint8)
    for _ in range(24):
        top, left = random.integers(60), random.integers(80)
        pixels[top : top + random.integers(8, 40), left : left + random.integers(8, 40)] = random.integers(256, size=3)
    return Image.fromarray(pixels)


def test_boxes_depend_on_photograph_and_seed_alone() -> None:
    if not extras.has_contributed_modules():
        pytest.skip("OpenCV with its contributed modules is an optional extra")

    def boxes(photograph: int, seed: int) -> list[list[int]]:
        return search_boxes(coloured(photograph), most=5, min_share=0.01, seed=seed).tolist()  # type: ignore[no-any-return]

    first = boxes(0, 7)
    assert len(first) == 5
    for other in range(1, 4):
        boxes(other, other)
        assert boxes(0, 7) == first
    assert len({str(boxes(0, seed)) for seed in range(8)}) > 1


def test_a_ranking_forgets_the_order_it_was_given() -> None:
    random = np.random.default_rng(0)
    boxes = np.concatenate([random.integers(0, 50, (200, 2)), random.integers(1, 50, (200, 2))], axis=1)
    boxes = np.unique(boxes, axis=0)
    first = ranked(boxes, seed=3)
    assert {tuple(box) for box in first.tolist()} == {tuple(box) for box in boxes.tolist()}
    assert np.array_equal(ranked(random.permutation(boxes), seed=3), first)
    assert not np.array_equal(ranked(boxes, seed=4), first)
    # Larger boxes come first more often: a place in the hierarchy of n times a number drawn from [0, 1).
    areas = np.mean([ranked(boxes, seed=seed)[:, 2:].prod(axis=1) for seed in range(50)], axis=0)
    first, last = areas[:50].mean(), areas[-50:].mean()
    assert first > 2 * last


def test_smaller_boxes_are_painted_over_larger_ones() -> None:
    boxes = np.array([[1, 1, 1, 1], [0, 0, 3, 2]])
    assert painted(boxes, 3, 4).tolist() == [[2, 2, 2, 0], [2, 1, 2, 0], [0, 0, 0, 0]]

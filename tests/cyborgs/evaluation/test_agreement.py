"""Agreement of label maps: a partition's, not its names'."""

import numpy as np
import pytest

from cyborgs.evaluation.agreement import mask_agreement
from tests.cyborgs.references import Labels


def _pairs_index(first: Labels, second: Labels) -> float:
    """Adjusted Rand index by counting pairs of cells."""
    a, b = first.ravel(), second.ravel()
    upper = np.triu_indices(len(a), 1)
    together_a, together_b = (a[:, None] == a)[upper], (b[:, None] == b)[upper]
    both, in_a, in_b = (together_a & together_b).sum(), together_a.sum(), together_b.sum()
    by_chance = in_a * in_b / len(upper[0])
    return float((both - by_chance) / ((in_a + in_b) / 2 - by_chance))


@pytest.mark.parametrize("seed", range(4))
def test_counts_pairs_of_cells(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.integers(0, 4, (6, 9), dtype=np.uint8)
    second = np.where(random.random((6, 9)) < 0.6, first, random.integers(0, 5, (6, 9))).astype(np.uint8)
    assert mask_agreement(first, second) == pytest.approx(_pairs_index(first, second))
    assert mask_agreement(second, first) == pytest.approx(_pairs_index(first, second))


def test_names_do_not_matter() -> None:
    first = np.random.default_rng(0).integers(0, 5, (8, 8), dtype=np.uint8)
    assert mask_agreement(first, 255 - 3 * first) == pytest.approx(1)


def test_unrelated_maps_agree_as_by_chance() -> None:
    random = np.random.default_rng(1)
    values = [mask_agreement(*random.integers(0, 4, (2, 20, 20), dtype=np.uint8)) for _ in range(50)]
    assert abs(np.mean(values)) < 0.005


def test_different_grids_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        mask_agreement(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))

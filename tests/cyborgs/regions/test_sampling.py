"""Sampled regions: with replacement, uniform over the ids that are present."""

import numpy as np

from cyborgs.regions.sampling import sample_regions

EMPTY = np.zeros((1, 1), np.uint8)


def _sample(
    labels: list[int], other: list[int], count: int, *, shared: bool, seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return sample_regions(
        np.array([labels], np.uint8),
        np.array([other], np.uint8),
        count,
        sampling="shared" if shared else "independent",
        random=np.random.default_rng(seed),
    )


def test_uniform_over_ids_whatever_their_size() -> None:
    """Id 7 covers 90 of 93 cells and is drawn no more often than the others (4 sigma of 0.25 +- 0.0022)."""
    drawn = _sample([7] * 90 + [0, 200, 255], [1], 40_000, shared=False)
    ids, counts = np.unique(drawn, return_counts=True)
    assert ids.tolist() == [0, 7, 200, 255]
    assert np.abs(counts / 40_000 - 0.25).max() < 0.009


def test_every_id_takes_part() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    drawn = sample_regions(labels, EMPTY, 256 * 20, sampling="independent", random=np.random.default_rng(0))
    assert set(drawn.tolist()) == set(range(256))


def test_with_replacement() -> None:
    assert _sample([3, 5], [3], 16, shared=False).shape == (16,)
    assert set(_sample([3, 5], [3], 16, shared=False).tolist()) == {3, 5}


def test_independent_does_not_look_at_the_partner() -> None:
    alone = _sample([1, 2, 3], [9], 50, shared=False)
    np.testing.assert_array_equal(alone, _sample([1, 2, 3], [1], 50, shared=False))


def test_shared_takes_ids_of_both_views() -> None:
    drawn = _sample([1, 2, 3, 4], [2, 4, 6], 4000, shared=True)
    ids, counts = np.unique(drawn, return_counts=True)
    assert ids.tolist() == [2, 4]
    assert abs(counts[0] / 4000 - 0.5) < 0.04


def test_shared_falls_back_to_the_view_itself() -> None:
    assert set(_sample([1, 2], [8, 9], 100, shared=True).tolist()) == {1, 2}


def test_same_stream_same_regions() -> None:
    first, again = (_sample(list(range(40)), [0], 16, shared=False, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != _sample(list(range(40)), [0], 16, shared=False, seed=6)).any()

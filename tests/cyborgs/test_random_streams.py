"""Streams are told apart by their names alone."""

import hashlib

import numpy as np

from cyborgs.random_streams import stream, stream_seed


def test_same_name_same_numbers_from_the_start() -> None:
    first = stream("view", 0, 3)
    first.random(5)
    np.testing.assert_array_equal(stream("view", 0, 3).random(8), stream("view", 0, 3).random(8))
    assert first.random() != stream("view", 0, 3).random()


def test_names_are_told_apart() -> None:
    """By place, by kind and by where one part ends and the next begins."""
    names: list[tuple[int | str, ...]] = [
        ("a", 1, 2),
        ("a", 2, 1),
        ("a", 12),
        ("a1", 2),
        ("a", "1", 2),
        ("a", 1, 2, 0),
        ("b", 1, 2),
        ("a, 1, 2",),
    ]
    assert len({stream_seed(*name) for name in names}) == len(names)


def test_seeds_fit_63_bits_and_fill_them() -> None:
    seeds = np.array([stream_seed("x", number) for number in range(2000)], dtype=object)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert abs(np.mean(seeds / 2**63) - 0.5) < 0.03
    assert len(set(seeds.tolist())) == 2000


def test_neighbouring_streams_are_unrelated() -> None:
    draws = np.stack([stream("view", 0, number).normal(size=200) for number in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.33


def test_seeds_stay_what_they_were() -> None:
    """A run that goes on under a later version draws what it would have drawn: eight bytes of BLAKE2b, halved."""
    digest = hashlib.blake2b(b"('view', 0, 1, 2, 3)", digest_size=8).digest()
    expected = sum(byte << 8 * place for place, byte in enumerate(digest)) // 2
    assert stream_seed("view", 0, 1, 2, 3) == expected

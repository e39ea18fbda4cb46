"""What a step sees: every photograph once a round, the same whoever reads; rare classes more often."""

import numpy as np
import pytest

from cyborgs.distributed import World
from cyborgs.transfer.samples import DrawnSamples, repeated


def drawn(rows: int, **options: object) -> DrawnSamples[int, tuple[int, float]]:
    return DrawnSamples(range(rows), lambda row, random: (row, random.random()), seed=4, **options)  # type: ignore[arg-type]


def test_a_round_shows_every_photograph_once_and_a_small_split_goes_round() -> None:
    seen = [row for batch in drawn(6).batches(0, 3, batch_size=4) for row, _ in batch]
    assert sorted(seen[:6]) == list(range(6)) == sorted(seen[6:])
    assert seen[:6] != seen[6:]
    (batch,) = drawn(2).batches(0, 1, batch_size=5)
    assert len(batch) == 5


def test_steps_are_the_same_from_anywhere_on_any_number_of_processes() -> None:
    whole = list(drawn(7, threads=3).batches(0, 6, batch_size=4))
    assert list(drawn(7, threads=1).batches(2, 6, batch_size=4)) == whole[2:]
    shares = [list(drawn(7).batches(0, 6, batch_size=4, world=World(rank, 2))) for rank in (0, 1)]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole
    assert len({luck for batch in whole for _, luck in batch}) == 24


def test_rare_categories_by_hand() -> None:
    """LVIS, section 5: r = max(1, sqrt(t / f)); what one photograph in 100 shows comes sqrt(0.09 / 0.01) = 3 times."""
    shown = [[1], *([[2]] * 99)]
    rows = repeated(shown, 0.09, seed=0)
    assert rows.count(0) == 3
    assert sorted(set(rows)) == list(range(100))
    assert len(rows) == 102
    assert repeated(shown, 0.001, seed=0) == list(range(100))


def test_what_is_not_whole_is_rounded_by_chance_in_that_proportion() -> None:
    shown = [[number] for number in range(400)]
    threshold = 1.5**2 / 400
    assert np.mean([len(repeated(shown, threshold, seed=seed)) / 400 for seed in range(20)]) == pytest.approx(
        1.5, abs=0.02
    )


def test_photographs_that_show_nothing_come_once() -> None:
    assert repeated([[], [3], []], 0.3, seed=0) == [0, 1, 2]

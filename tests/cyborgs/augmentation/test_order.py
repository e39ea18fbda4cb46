"""Which photographs a step sees: whole epochs, and the same from wherever a run goes on."""

import numpy as np
import pytest

from cyborgs.augmentation.dataset import StepSampler
from cyborgs.augmentation.order import SampleName, epoch_order, steps_per_epoch


def _batches(first: int, last: int, *, rows: int = 11, batch_size: int = 3, seed: int = 0) -> list[list[SampleName]]:
    sampler = StepSampler(
        rows, batch_size=batch_size, seed=seed, first_step=first, last_step=last, pairs=lambda epoch: 1 + epoch % 2
    )
    batches = list(sampler)
    assert len(sampler) == len(batches)
    return batches


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, seed=0, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])
    assert not np.array_equal(orders[0], epoch_order(50, seed=1, epoch=0))
    np.testing.assert_array_equal(orders[1], epoch_order(50, seed=0, epoch=1))


def test_all_rows_come_first_equally_often() -> None:
    """1000 epochs of 5 rows: each is first 200 times, 4.5 sigma = 57."""
    first = np.bincount([epoch_order(5, seed=0, epoch=epoch)[0] for epoch in range(1000)], minlength=5)
    assert np.abs(first - 200).max() < 57


@pytest.mark.parametrize(("rows", "batch_size", "steps"), [(11, 3, 3), (12, 3, 4), (3, 3, 1), (5, 3, 1)])
def test_the_last_partial_batch_is_dropped(rows: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(rows, batch_size) == steps


def test_fewer_photographs_than_a_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="7 photographs do not fill a batch of 8.*batch_size"):
        steps_per_epoch(7, 8)


def test_an_epochs_batches_are_whole_and_without_repeats() -> None:
    """11 rows in batches of 3: nine different rows an epoch, in that epoch's order."""
    batches = _batches(0, 9)
    for epoch in range(3):
        names = [name for batch in batches[3 * epoch : 3 * epoch + 3] for name in batch]
        assert {name.epoch for name in names} == {epoch}
        assert [name.row for name in names] == epoch_order(11, seed=0, epoch=epoch)[:9].tolist()


def test_number_of_pairs_follows_the_epoch() -> None:
    assert [{name.pairs for name in batch} for batch in _batches(0, 6)] == [{1}] * 3 + [{2}] * 3


@pytest.mark.parametrize("first", range(10))
def test_any_step_continues_with_the_same_batches(first: int) -> None:
    assert _batches(first, 10) == _batches(0, 10)[first:]


def test_seeds_have_orders_of_their_own() -> None:
    assert _batches(0, 3) != _batches(0, 3, seed=1)


def test_names_are_plain_numbers() -> None:
    """Streams are named by what is written in a name: a numpy integer would name another stream."""
    assert {type(name.row) for batch in _batches(0, 3) for name in batch} == {int}


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_every_batch_in_order(world_size: int) -> None:
    """Over epoch boundaries: the parts of a step, one after the other, are the step of a single process."""

    def batches(rank: int, size: int) -> list[list[SampleName]]:
        sampler = StepSampler(
            20,
            batch_size=6,
            seed=3,
            first_step=1,
            last_step=8,
            pairs=lambda epoch: 1 + epoch % 2,
            rank=rank,
            world_size=size,
        )
        return list(sampler)

    parts = [batches(rank, world_size) for rank in range(world_size)]
    joined = [[name for share in shares for name in share] for shares in zip(*parts, strict=True)]
    assert joined == batches(0, 1)
    assert {len(share) for part in parts for share in part} == {6 // world_size}

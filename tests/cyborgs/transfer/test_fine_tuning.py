"""The step of fine-tuning: rates by hand, resuming to equal tensors, and losses that are not finite."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cyborgs.transfer.fine_tuning import FineTuning, Schedule

SCHEDULE = Schedule(
    steps=24000, learning_rate=0.02, head_factor=1.0, momentum=0.9, weight_decay=1e-4, norm_weight_decay=0.0,
    kind="steps",
    milestones=(18000, 22000), decay=0.1, power=0.9, floor=1e-4, warmup_steps=100, warmup_factor=0.001,
)  # fmt: skip


def test_detectron2s_rates_by_hand() -> None:
    rates = [SCHEDULE.rate(step) for step in (0, 50, 100, 17999, 18000, 22000)]
    assert rates == pytest.approx([0.02 * 0.001, 0.02 * (0.0005 + 0.5), 0.02, 0.02, 0.002, 0.0002])


def test_mmsegmentations_rates_by_hand() -> None:
    poly = dataclasses.replace(SCHEDULE, kind="poly", steps=40000, learning_rate=0.01, warmup_steps=0)
    assert [poly.rate(step) for step in (0, 20000, 39999)] == pytest.approx(
        [0.01, 0.0099 * 0.5**0.9 + 1e-4, 0.0099 * (1 / 40000) ** 0.9 + 1e-4]
    )


def make(**changes: Any) -> FineTuning:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    schedule = dataclasses.replace(SCHEDULE, steps=10, learning_rate=0.1, warmup_steps=0, milestones=(6,), **changes)
    return FineTuning(network, schedule, is_head=lambda name: name.startswith("3."), seed=1, bfloat16=False)


def losses(step: int) -> Callable[[nn.Module], dict[str, Tensor]]:
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return lambda network: {"square": network(images).square().mean(), "linear": network(images).mean()}


def test_it_goes_on_from_any_step_to_equal_tensors() -> None:
    """With dropout, so that what a step draws has to be drawn again."""
    whole, broken = make(), make()
    for step in range(10):
        taken = whole.take(losses(step))
        assert taken["loss"] == pytest.approx(taken["square"] + taken["linear"])
    for step in range(4):
        broken.take(losses(step))
    kept = {name: tensor.clone() for name, tensor in broken.tensors().items()}
    torch.rand(5)  # whatever else draws meanwhile
    again = make()
    again.load(kept, step=4)
    for step in range(4, 10):
        again.take(losses(step))
    expected = whole.tensors()
    assert again.tensors().keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in again.tensors().items())


def test_the_head_has_a_rate_of_its_own() -> None:
    plain, fast = make(momentum=0.0, weight_decay=0.0), make(momentum=0.0, weight_decay=0.0, head_factor=10.0)
    before = {name: tensor.clone() for name, tensor in plain.network.state_dict().items()}
    for each in (plain, fast):
        each.take(losses(0))
    moved = [
        {name: tensor - before[name] for name, tensor in each.network.state_dict().items()} for each in (plain, fast)
    ]
    torch.testing.assert_close(moved[1]["3.weight"], 10 * moved[0]["3.weight"], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(moved[1]["0.weight"], moved[0]["0.weight"])


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    tuning = make()
    before = {name: tensor.clone() for name, tensor in tuning.tensors().items() if "running" not in name}
    with pytest.raises(FloatingPointError, match="square is not finite"):
        tuning.take(lambda network: {"square": network(torch.ones(2, 3)).sum() * torch.inf})
    after = tuning.tensors()
    assert tuning.step == 0
    assert all(after[name].equal(tensor) for name, tensor in before.items() if "num_batches" not in name)

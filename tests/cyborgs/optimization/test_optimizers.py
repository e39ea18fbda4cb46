"""Which parameters decay, and optimiser state that travels by name."""

from collections.abc import Iterable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from cyborgs.optimization.optimizers import (
    OptimizerName,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)

NAMES: list[OptimizerName] = ["lars", "sgd", "adamw"]


def _network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


def _optimizer(
    name: OptimizerName, parameters: Iterable[tuple[str, nn.Parameter]], *, momentum: float = 0.9, decay: float = 0.1
) -> Optimizer:
    return make_optimizer(
        name, parameters, learning_rate=0.1, weight_decay=decay, momentum=momentum, trust_coefficient=0.001
    )


def _give_gradients(network: nn.Module, step: int) -> None:
    """Random, the same for the same step; the last bias never has one."""
    random = torch.Generator().manual_seed(step)
    for name, parameter in network.named_parameters():
        gradient = torch.randn(parameter.shape, generator=random)
        parameter.grad = None if name == "3.bias" else gradient


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_state_travels_by_name(name: OptimizerName, momentum: float) -> None:
    """Five steps straight equal two, a new optimiser over the same parameters in another order, and three more."""
    straight, stopped = _network(), _network()
    whole = _optimizer(name, straight.named_parameters(), momentum=momentum)
    for step in range(5):
        _give_gradients(straight, step)
        whole.step()

    before = _optimizer(name, stopped.named_parameters(), momentum=momentum)
    for step in range(2):
        _give_gradients(stopped, step)
        before.step()
    saved = {key: tensor.clone() for key, tensor in optimizer_tensors(before, stopped.named_parameters()).items()}

    resumed = _network()
    resumed.load_state_dict(stopped.state_dict())
    after = _optimizer(name, reversed(list(resumed.named_parameters())), momentum=momentum)
    load_optimizer_tensors(after, resumed.named_parameters(), saved)
    for step in range(2, 5):
        _give_gradients(resumed, step)
        after.step()
    for (key, left), right in zip(straight.named_parameters(), resumed.parameters(), strict=True):
        assert left.equal(right), key


@pytest.mark.parametrize("name", NAMES)
def test_what_was_loaded_is_what_was_saved(name: OptimizerName) -> None:
    network = _network()
    optimizer = _optimizer(name, network.named_parameters())
    _give_gradients(network, 0)
    optimizer.step()
    saved = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, network.named_parameters()).items()}
    assert {key.rpartition("/")[0] for key in saved} == {
        key for key, _ in network.named_parameters() if key != "3.bias"
    }
    other = _optimizer(name, network.named_parameters())
    load_optimizer_tensors(other, network.named_parameters(), saved)
    found = optimizer_tensors(other, network.named_parameters())
    assert found.keys() == saved.keys()
    assert all(tensor.equal(saved[key]) for key, tensor in found.items())


@pytest.mark.parametrize("name", NAMES)
def test_loading_forgets_what_was_there_and_shares_nothing(name: OptimizerName) -> None:
    network = _network()
    optimizer = _optimizer(name, network.named_parameters())
    _give_gradients(network, 0)
    optimizer.step()
    saved = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, network.named_parameters()).items()}
    load_optimizer_tensors(optimizer, network.named_parameters(), {})
    assert optimizer_tensors(optimizer, network.named_parameters()) == {}
    load_optimizer_tensors(optimizer, network.named_parameters(), saved)
    kept = {key: tensor.clone() for key, tensor in saved.items()}
    _give_gradients(network, 1)
    optimizer.step()
    assert all(tensor.equal(kept[key]) for key, tensor in saved.items())


@pytest.mark.parametrize("name", NAMES)
def test_only_parameters_with_two_dimensions_decay(name: OptimizerName) -> None:
    """With a zero gradient only decay moves anything, and it shrinks."""
    network = _network()
    optimizer = _optimizer(name, network.named_parameters(), decay=0.5)
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert parameter.norm() < before[key].norm(), key
        else:
            assert parameter.equal(before[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_without_a_gradient_nothing_moves(name: OptimizerName) -> None:
    network = _network()
    optimizer = _optimizer(name, network.named_parameters())
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer.step()
    assert all(parameter.equal(old) for parameter, old in zip(network.parameters(), before, strict=True))


def test_sgd_by_hand() -> None:
    """w = 2, g = 1, decay 0.1: u = 1.2 and m = 1.2, so w = 1.88; then u = 1.188, m = 2.268, w = 1.6532."""
    weight = nn.Parameter(torch.full((1, 1), 2.0))
    optimizer = _optimizer("sgd", [("weight", weight)])
    for expected in (1.88, 1.6532):
        weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert float(weight.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_is_set_for_all_groups(name: OptimizerName) -> None:
    """At rate 0 nothing moves, decay included."""
    network = _network()
    optimizer = _optimizer(name, network.named_parameters())
    before = [parameter.detach().clone() for parameter in network.parameters()]
    set_learning_rate(optimizer, 0.0)
    _give_gradients(network, 0)
    optimizer.step()
    assert all(parameter.equal(old) for parameter, old in zip(network.parameters(), before, strict=True))

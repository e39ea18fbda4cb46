"""LARS on numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyborgs.optimization.lars import LARS
from cyborgs.optimization.optimizers import make_optimizer
from tests.cyborgs.references import lars_update


def _parameter(values: object, gradient: object = None) -> nn.Parameter:
    parameter = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    if gradient is not None:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    return parameter


def _close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_two_steps_by_hand() -> None:
    """w = (3, 4), g = (0, 10), wd = 0.1, lr = 0.5, trust 0.01, momentum 0.9.

    Step 1: u = (0.3, 10.4); |w| = 5; factor 0.05 / |u|; m = factor u; w -= 0.5 m.
    Step 2 with g = (1, 0): the same from the new w, and m = 0.9 m + u.
    """
    weight = _parameter([[3.0, 4.0]], [[0.0, 10.0]])
    optimizer = LARS([weight], lr=0.5, momentum=0.9, weight_decay=0.1, trust_coefficient=0.01)
    optimizer.step()
    length = (0.3**2 + 10.4**2) ** 0.5
    first = [0.01 * 5 / length * 0.3, 0.01 * 5 / length * 10.4]
    moved = [3 - 0.5 * first[0], 4 - 0.5 * first[1]]
    _close(weight, [moved])

    weight.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.step()
    update = [1 + 0.1 * moved[0], 0.1 * moved[1]]
    factor = 0.01 * (moved[0] ** 2 + moved[1] ** 2) ** 0.5 / (update[0] ** 2 + update[1] ** 2) ** 0.5
    second = [0.9 * first[0] + factor * update[0], 0.9 * first[1] + factor * update[1]]
    _close(weight, [[moved[0] - 0.5 * second[0], moved[1] - 0.5 * second[1]]])


def test_first_step_has_the_length_of_the_trust() -> None:
    """|step| = lr x trust x |w| whatever the gradient's length: the reason for the method."""
    random = torch.Generator().manual_seed(0)
    for scale in (1e-6, 1.0, 1e6):
        weight = nn.Parameter(torch.randn(4, 5, generator=random) / 100)
        before = weight.detach().clone()
        weight.grad = scale * torch.randn(4, 5, generator=random)
        LARS([weight], lr=2.0, trust_coefficient=0.001).step()
        assert float((weight.detach() - before).norm()) == pytest.approx(0.002 * float(before.norm()), rel=1e-3)


def test_one_dimension_gets_plain_momentum_without_decay() -> None:
    """w = 2, g = 1 twice, lr 0.1: m is 1, then 1.9; w is 1.9, then 1.71."""
    weight, bias = _parameter([[1.0]], [[1.0]]), _parameter([2.0], [1.0])
    optimizer = make_optimizer(
        "lars",
        [("bias", bias), ("weight", weight)],
        learning_rate=0.1,
        weight_decay=0.5,
        momentum=0.9,
        trust_coefficient=0.001,
    )
    optimizer.step()
    _close(bias, [1.9])
    optimizer.step()
    _close(bias, [1.71])


@pytest.mark.parametrize(("start", "gradient"), [([[0.0, 0.0]], [[1.0, 2.0]]), ([[1.0, 2.0]], [[0.0, 0.0]])])
def test_factor_is_one_where_a_length_is_zero(start: list[list[float]], gradient: list[list[float]]) -> None:
    """A zero weight moves by its gradient; a zero gradient moves nothing and makes no nan."""
    weight = _parameter(start, gradient)
    LARS([weight], lr=0.5, weight_decay=0.0).step()
    _close(weight, [[w - 0.5 * g for w, g in zip(start[0], gradient[0], strict=True)]])


def test_without_a_gradient_nothing_moves() -> None:
    """No decay and no momentum of earlier steps either."""
    weight = _parameter([[3.0, 4.0]], [[1.0, 1.0]])
    optimizer = LARS([weight], lr=0.5, weight_decay=0.1)
    optimizer.step()
    moved = weight.detach().clone()
    momentum = optimizer.state[weight]["momentum_buffer"].clone()
    weight.grad = None
    optimizer.step()
    assert weight.equal(moved)
    assert optimizer.state[weight]["momentum_buffer"].equal(momentum)


def test_defaults() -> None:
    """Momentum 0.9, trust 0.001, and no decay unless it is asked for."""
    defaults = LARS([_parameter([[1.0]])], lr=0.5).defaults
    expected = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 0.001, "adapt": True}
    assert defaults == expected


def test_gradients_are_left_as_they_were() -> None:
    weight = _parameter([[3.0, 4.0]], [[1.0, 1.0]])
    LARS([weight], lr=0.5, weight_decay=0.1).step()
    assert weight.grad is not None
    _close(weight.grad, [[1.0, 1.0]])


def test_closure_is_run_with_gradients() -> None:
    weight = _parameter([[3.0, 4.0]])
    optimizer = LARS([weight], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        value = weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    assert optimizer.step(closure) == 25
    # u = 2w: the step is lr x 0.001 x |w| along w.
    _close(weight, [[3 * (1 - 0.0005), 4 * (1 - 0.0005)]])


def test_against_the_reference_over_many_steps() -> None:
    random = np.random.default_rng(0)
    start, velocity = random.normal(size=(4, 3)), np.zeros((4, 3))
    weight, expected = nn.Parameter(torch.from_numpy(start.copy())), start
    optimizer = LARS([weight], lr=0.3, momentum=0.8, weight_decay=0.05, trust_coefficient=0.02)
    for _ in range(8):
        gradient = random.normal(size=(4, 3))
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        expected, velocity = lars_update(expected, gradient, velocity, rate=0.3, momentum=0.8, decay=0.05, trust=0.02)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-10)

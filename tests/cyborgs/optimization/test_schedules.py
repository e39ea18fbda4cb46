"""Learning rate and target momentum as functions of the step."""

import itertools

import pytest

from cyborgs.optimization.schedules import ema_momentum, learning_rate
from tests.cyborgs.references import rate_of_step, target_momentum


def _steps(step: int) -> float:
    """The paper's: 1000 steps, 100 of growth, down at 0.96 and 0.98."""
    return learning_rate(step, peak=0.1, steps=1000, warmup_steps=100, schedule="step", milestones=(0.96, 0.98))


def _cosine(step: int, *, warmup_steps: int = 20) -> float:
    return learning_rate(step, peak=2.0, steps=220, warmup_steps=warmup_steps, schedule="cosine")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.001),
        (1, 0.002),
        (98, 0.099),
        (99, 0.1),
        (100, 0.1),
        (959, 0.1),
        (960, 0.01),
        (979, 0.01),
        (980, 0.001),
        (999, 0.001),
    ],
)
def test_growth_then_steps_down(step: int, expected: float) -> None:
    assert _steps(step) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.1),
        (19, 2.0),
        (20, 2.0),
        (70, 2.0 * (1 + 2**-0.5) / 2),  # a quarter of the way: cos 45 degrees
        (120, 1.0),
        (170, 2.0 * (1 - 2**-0.5) / 2),
        (220, 0.0),
    ],
)
def test_growth_then_half_a_cosine(step: int, expected: float) -> None:
    assert _cosine(step) == pytest.approx(expected, abs=1e-12)


def test_no_growth_starts_at_the_peak() -> None:
    assert _cosine(0, warmup_steps=0) == 2.0


def test_never_rises_after_growth_and_stays_above_zero() -> None:
    for schedule in (_steps, _cosine):
        rates = [schedule(step) for step in range(100 if schedule is _steps else 20, 220)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
        assert rates[-1] > 0


def test_growth_may_fill_the_run() -> None:
    assert learning_rate(9, peak=1.0, steps=10, warmup_steps=10, schedule="cosine") == 1.0
    assert learning_rate(10, peak=1.0, steps=10, warmup_steps=10, schedule="cosine") == 1.0
    assert learning_rate(11, peak=1.0, steps=11, warmup_steps=10, schedule="cosine") == 0.0


def test_decay_of_each_milestone() -> None:
    rate = learning_rate(9, peak=1.0, steps=10, warmup_steps=0, schedule="step", milestones=(0.2, 0.5, 0.95), decay=0.5)
    assert rate == 0.25


def test_momentum_of_a_long_run() -> None:
    """0.996 at the start, 1 - 0.004 / 2 half way, 1 at the end."""
    assert ema_momentum(0, start=0.996, steps=100_000) == pytest.approx(0.996)
    assert ema_momentum(50_000, start=0.996, steps=100_000) == pytest.approx(0.998)
    assert ema_momentum(100_000, start=0.996, steps=100_000) == 1.0


@pytest.mark.parametrize(
    ("steps", "start"),
    [(2000, 0.996), (2001, 0.996), (1999, 1 - 8 / 1999), (400, 0.98), (80, 0.9), (8, 0.0), (2, 0.0)],
)
def test_short_runs_start_lower(steps: int, start: float) -> None:
    """1 - max(0.004, 8 / steps): they part at 2000 steps, and it is never below 0."""
    assert ema_momentum(0, start=0.996, steps=steps) == pytest.approx(start)


def test_momentum_only_rises() -> None:
    values = [ema_momentum(step, start=0.99, steps=300) for step in range(301)]
    assert all(later > earlier for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize(("steps", "growth"), [(400, 0), (400, 37), (50, 1)])
@pytest.mark.parametrize("milestones", [(0.5, 0.96, 0.98), None])
def test_every_step_of_a_run(steps: int, growth: int, milestones: tuple[float, ...] | None) -> None:
    for step in range(steps):
        found = learning_rate(
            step,
            peak=0.7,
            steps=steps,
            warmup_steps=growth,
            schedule="cosine" if milestones is None else "step",
            milestones=milestones or (),
        )
        expected = rate_of_step(step, peak=0.7, steps=steps, growth=growth, milestones=milestones)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), step
        momentum = target_momentum(step, start=0.99, steps=steps)
        assert ema_momentum(step, start=0.99, steps=steps) == pytest.approx(momentum, rel=1e-12)

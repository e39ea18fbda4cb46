"""Alarms of the learning monitor."""

import numpy as np
import pytest

from stages.monitor import SUSTAINED, Monitor


def warnings(figures: list[dict[str, float]], *, judge_loss_from: int = 0) -> list[str]:
    monitor = Monitor(judge_loss_from=judge_loss_from)
    return [words for step, metrics in enumerate(figures) for words in monitor.look(metrics, step).values()]


@pytest.mark.parametrize(
    ("figure", "bad", "good", "name"),
    [("projection_std", 0.29, 0.31, "collapse"), ("orphans", 0.91, 0.89, "orphans")],
)
def test_what_stays_bad_is_said_once(figure: str, bad: float, good: float, name: str) -> None:
    assert warnings([{figure: good}] * 100) == []
    assert warnings([{figure: bad}] * (SUSTAINED - 1)) == []
    (said,) = warnings([{figure: bad}] * (3 * SUSTAINED))
    assert said.startswith(f"{name}: {figure} is {bad:.3f} at step {SUSTAINED - 1}")


def test_one_good_step_starts_the_count_again() -> None:
    almost = [{"projection_std": 0.1}] * (SUSTAINED - 1) + [{"projection_std": 0.5}]
    assert warnings(almost * 4) == []
    assert len(warnings([*almost, *[{"projection_std": 0.1}] * SUSTAINED])) == 1
    assert len(warnings(([{"projection_std": 0.1}] * SUSTAINED + [{"projection_std": 0.5}]) * 2)) == 1, "said once"


def test_a_figure_that_is_not_logged_is_not_judged() -> None:
    assert warnings([{"vmf_loss": 3.0}] * 100) == []


def losses(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", figure: str = "mask_loss") -> list[dict[str, float]]:
    return [{figure: float(value)} for value in values]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("first", "last"), [(15.0, 4.0), (6.9, 2.5), (2.0, 0.05), (9.0, 9.0)])
def test_a_noisy_loss_that_falls_or_stays_is_no_divergence(seed: int, first: float, last: float) -> None:
    """Noise of a fifth of the loss, and now and then a step of twice as much: 20 logged steps even them out."""
    random = np.random.default_rng(seed)
    falling = last + (first - last) * np.exp(-np.arange(400) / 60)
    noisy = falling * (1 + 0.2 * random.standard_normal(400))
    noisy[random.random(400) < 0.03] *= 2
    assert warnings(losses(noisy)) == []


@pytest.mark.parametrize("figure", ["mask_loss", "loss"])
def test_a_loss_that_rises_far_above_its_lowest_is_said_once(figure: str) -> None:
    """From 8 down to 2, and from step 100 up by 0.2 a step: the mean of 20 is above 1.5 x 2 + 1 soon after 120."""
    random = np.random.default_rng(0)
    values = 2 + 6 * np.exp(-np.arange(300) / 20) + 0.1 * random.standard_normal(300)
    values[100:] += 0.2 * np.arange(200)
    (said,) = warnings(losses(values, figure))
    assert said.startswith(f"divergence: {figure} is 4.")
    step = int(said.partition("up to step ")[2].partition(",")[0])
    window = values[step - SUSTAINED + 1 : step + 1].mean()
    lowest = min(values[end - SUSTAINED : end].mean() for end in range(SUSTAINED, step + 2))
    assert window > 1.5 * lowest + 1 > values[step - SUSTAINED : step].mean(), "not at the first step that is so"
    assert 110 < step < 130


def test_what_joins_the_loss_now_and_then_is_no_divergence() -> None:
    """The vMF loss of every fifth epoch, far above the mask loss."""
    joined = [{"mask_loss": 2.0, "loss": 30.0 if step // 40 % 5 == 4 else 2.0} for step in range(800)]
    assert warnings(joined) == []


def test_a_loss_that_recovers_and_diverges_again_is_not_said_again() -> None:
    values = np.repeat([2.0, 9.0, 2.0, 9.0], 50)
    assert len(warnings(losses(values))) == 1


def test_a_queue_that_fills_is_no_divergence() -> None:
    """MoCo's: random negatives are easy, keys of photographs are not."""
    values = np.concatenate([np.linspace(1.4, 11, 100), np.full(100, 10.5)])
    assert len(warnings(losses(values, "loss"))) == 1
    assert warnings(losses(values, "loss"), judge_loss_from=100) == []

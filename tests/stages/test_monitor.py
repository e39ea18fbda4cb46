"""Alarms of the learning monitor."""

import pytest

from stages.monitor import SUSTAINED, Monitor


def warnings(figures: list[dict[str, float]]) -> list[str]:
    said: list[str] = []
    monitor = Monitor(said.append)
    for step, metrics in enumerate(figures):
        monitor.look(metrics, step)
    return said


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
    assert len(warnings(([{"projection_std": 0.1}] * SUSTAINED + [{"projection_std": 0.5}]) * 2)) == 2


def test_a_figure_that_is_not_logged_is_not_judged() -> None:
    assert warnings([{"vmf_loss": 3.0}] * 100) == []

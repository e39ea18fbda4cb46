"""The interface to trackers, without stages."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.loading import load_config
from schemas.plan import find_step
from stages.tracking.tensorboard import open_tracker
from stages.tracking.tracker import Tracked
from stages.tracking.trackers import Guarded, InBackground, Trackers, tracked_stage
from storage.run import Run
from storage.s3 import S3Store
from tests.stages.test_full_disk import fill, mounted
from tests.stages.tracking.reading import events
from tests.storage.samples import make_run, small_config

KEY = "0123456789abcdef0123"


class Broken:
    """Fails at a step."""

    def __init__(self, at: int) -> None:
        self.at, self.told = at, list[int]()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        del values
        if step == self.at:
            raise OSError(f"server\naway at {step}")
        self.told.append(step)

    def close(self) -> None:
        raise AssertionError("it was given up")


class Hanging:
    """Waits for a server that does not answer."""

    def __init__(self) -> None:
        self.answer, self.closed = threading.Event(), threading.Event()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        del step, values
        self.answer.wait()

    def close(self) -> None:
        self.closed.set()


def test_what_an_attempt_writes_hides_what_earlier_ones_wrote_from_there_on(tmp_path: Path) -> None:
    tracked = Tracked("run", "0", "cyborgs", tmp_path, "train", f".train-cycle-000.{KEY}")
    for first, value in ((1, 1.0), (4, 2.0)):
        tracker = open_tracker(tracked, first)
        for step in range(first, 6):
            tracker.scalars(step, {"train/loss": value})
        tracker.close()
    assert events(tmp_path / "train") == {"train/loss": [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]}


def test_one_that_fails_is_given_up_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    broken, opened = Broken(at=3), list[int]()

    def open_broken(first_step: int) -> Broken:
        opened.append(first_step)
        return broken

    guarded = Guarded("wandb", open_broken)
    for step in range(1, 6):
        guarded.scalars(step, {"train/loss": 1.0})
    guarded.close()
    assert (opened, broken.told) == ([1], [1, 2])
    assert capsys.readouterr().err == "warning: tracker wandb: server away at 3; the stage goes on without it\n"


def test_a_full_disk_costs_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "logs", 1) as logs:
        tracked = Tracked("run", "0", "cyborgs", logs, "train", f".train-cycle-000.{KEY}")
        guarded = Guarded("tensorboard", lambda first_step: open_tracker(tracked, first_step))
        guarded.scalars(1, {"train/loss": 1.0})
        fill(logs / "filler", leave=0)
        for step in range(2, 300):
            guarded.scalars(step, {"train/loss": 1.0})
        guarded.close()
        (line,) = capfd.readouterr().err.splitlines()
        assert line == "warning: tracker tensorboard: [Errno 28] No space left on device; the stage goes on without it"
        (logs / "filler").unlink()
        shown = events(logs / "train")["train/loss"]
        assert shown[0] == (1, 1.0) and [step for step, _ in shown] == list(range(1, len(shown) + 1))


def test_nobody_waits_for_one_that_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    hanging = Hanging()
    tracker = InBackground("mlflow", hanging, closing_seconds=0.1)
    for step in range(1000):
        tracker.scalars(step, {"train/loss": 1.0})
    assert not hanging.closed.is_set()
    tracker.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: tracker mlflow: it did not take all within 0.1 s of the stage's end; the stage goes on without it"
    )
    hanging.answer.set()
    assert hanging.closed.wait(10)


def test_one_that_is_told_nothing_is_not_opened(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    trackers = Trackers(run, find_step(run.config, "train", 0), KEY, told=7)
    for step in (6, 7):
        trackers.scalars(step, {"loss": 1.0})
    trackers.close()
    assert not (tmp_path / "run/logs").exists()


def test_a_run_elsewhere_is_told_of_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = make_run(tmp_path / "run")
    run = Run(S3Store("s3://bucket/run"), local.record)
    trackers = Trackers(run, find_step(run.config, "train", 0), KEY, told=-1)
    for step in (1, 2):
        trackers.scalars(step, {"loss": 1.0})
    trackers.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: tracker tensorboard: ")


def test_stages_of_a_run_share_an_identity_and_other_settings_have_another(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    other = make_run(tmp_path / "other")
    warmer = make_run(tmp_path / "warmer", small_config(train={"temperature": 0.2}))

    def identity(run: Run, stage: str = "train") -> str:
        return tracked_stage("wandb", run, find_step(run.config, "train", 0), KEY).identity

    assert identity(run) == tracked_stage("mlflow", run, find_step(run.config, "evaluate", 1), KEY).identity
    assert identity(run) != identity(other)
    assert identity(warmer) != identity(Run(warmer.store, run.record))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("placement.trackers=comet", r"placement.trackers.*comet.*'tensorboard', 'wandb' or 'mlflow'"),
        ("placement.trackers=[wandb, wandb]", "placement.trackers: wandb is named twice: name it once"),
    ],
)
def test_a_name_that_is_none_is_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_config("demo", [setting])
    assert len(str(caught.value).splitlines()) == 1


def test_trackers_are_free_to_change() -> None:
    assert load_config("demo", []).placement.trackers == ("tensorboard",)
    assert load_config("demo", ["placement.trackers=[]"]).placement.trackers == ()
    assert load_config("demo", ["placement.trackers=wandb"]).placement.trackers == ("wandb",)

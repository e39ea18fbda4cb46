"""A stage's sign of life, and who judges it."""

import threading
import time
from pathlib import Path

import pytest

from schemas.plan import find_step
from stages import heart
from stages.heart import Heart
from storage import layout
from storage.heartbeat import Heartbeat, Pulse, read_heartbeat, write_heartbeat
from storage.run import Run
from tests.storage.samples import make_run


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def test_silence_is_counted_from_the_last_change_that_was_seen(run: Run) -> None:
    step, clock = find_step(run.config, "train", 0), Clock()
    write_heartbeat(run, step, Heartbeat(attempt="a", beat=7, done=3, total=9))
    pulse = Pulse(run, step, clock)
    clock.now += 50
    assert pulse.look() == Heartbeat(attempt="a", beat=7, done=3, total=9)
    assert pulse.silence == 50, "a file that stands still is no sign of life"
    write_heartbeat(run, step, Heartbeat(attempt="a", beat=8, done=5, total=9))
    pulse.look()
    assert (pulse.silence, pulse.furthest) == (0, 5)
    clock.now += 4
    write_heartbeat(run, step, Heartbeat(attempt="b", beat=1, done=2, total=9))
    pulse.look()
    assert (pulse.silence, pulse.furthest) == (0, 5), "another attempt lives, and was further before"
    clock.now += 4
    pulse.rest()
    assert pulse.silence == 0


def test_a_damaged_or_missing_heartbeat_is_none(run: Run) -> None:
    step = find_step(run.config, "warm-up", None)
    assert read_heartbeat(run, step) is None
    run.store.write(layout.heartbeat(step), b'{"attempt": ')
    assert read_heartbeat(run, step) is None


def test_the_heart_beats_while_it_works_and_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "BEAT_SECONDS", 0.02)
    step, seen = find_step(run.config, "warm-up", None), set()
    with Heart(run, step) as beating:
        beating.at(unit="step", done=4, total=8, figures="loss 2.0")
        deadline = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < deadline:
            beat = read_heartbeat(run, step)
            if beat is not None:
                seen.add(beat.beat)
        beat = read_heartbeat(run, step)
        assert beat is not None
        assert beat.position == "step 4/8  loss 2.0"
    assert len(seen) >= 3
    assert read_heartbeat(run, step) is None
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_a_full_disk_does_not_stop_the_heart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = []

    def full(*_: object) -> None:
        beats.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heart, "write_heartbeat", full)
    monkeypatch.setattr(heart, "BEAT_SECONDS", 0.01)
    with Heart(run, find_step(run.config, "warm-up", None)):
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3

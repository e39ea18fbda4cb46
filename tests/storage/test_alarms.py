"""Alarms that are noted on storage: told once, and of today's artifact alone."""

from pathlib import Path

from schemas.plan import find_step
from storage import layout
from storage.alarms import (
    alarms_noted,
    note_alarms,
    note_going_on,
    note_of,
    note_sounded,
    paused_at,
    take_alarm,
    untold_alarm,
)
from storage.artifacts import standing
from tests.storage.samples import make_run


def test_an_alarm_is_told_once_and_remembered(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    step = find_step(run.config, "index-images", None)
    key = standing(run, "index-images").key
    assert key is not None
    assert take_alarm(run, step) is None
    note_alarms(run, step, key, names=frozenset({"collapse"}), words="collapse: all alike")
    assert untold_alarm(run, step) == untold_alarm(run, step) == "collapse: all alike"
    assert take_alarm(run, step) == "collapse: all alike"
    assert take_alarm(run, step) is None
    note_alarms(run, step, key, names=frozenset({"orphans"}), words="orphans: none found")
    assert alarms_noted(run, step, key) == {"collapse", "orphans"}
    assert take_alarm(run, step) == "orphans: none found"


def test_what_sounded_stays_and_a_pause_ends_when_the_step_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    step = find_step(run.config, "index-images", None)
    key = standing(run, "index-images").key
    assert key is not None
    note_sounded(run, step, key, {"orphans": "orphans: none found"})
    assert paused_at(run, step) == ""
    note_sounded(run, step, key, {"collapse": "collapse: all alike"})
    note_alarms(run, step, key, names=frozenset({"collapse"}), words="collapse: all alike")
    assert take_alarm(run, step) == paused_at(run, step) == "collapse: all alike"
    note_going_on(run, step, key)
    assert paused_at(run, step) == ""
    assert note_of(run, step, key).sounded == {"orphans": "orphans: none found", "collapse": "collapse: all alike"}
    assert alarms_noted(run, step, key) == {"collapse"}
    assert note_of(run, step, "of other settings").sounded == {}


def test_of_another_artifact_or_damaged_it_says_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    step = find_step(run.config, "index-images", None)
    note_alarms(run, step, "of other settings", names=frozenset({"collapse"}), words="collapse: all alike")
    assert take_alarm(run, step) is None
    key = standing(run, "index-images").key
    assert key is not None
    assert alarms_noted(run, step, key) == frozenset()
    note_alarms(run, step, key, names=frozenset({"orphans"}), words="orphans: none found")
    assert alarms_noted(run, step, key) == {"orphans"}
    run.store.write(layout.alarm_note(step), b"\0")
    assert alarms_noted(run, step, key) == frozenset()
    assert take_alarm(run, step) is None

"""Alarms of the learning monitor that sounded in a step, on storage beside its logs: the manifest comes later.

Where a run pauses at one (placement.pause_on_alarm), the stage notes it and the flow tells it to a person; each alarm
sounds, and pauses, once for an artifact.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.plan import Step
from storage import layout
from storage.artifacts import Standings
from storage.run import Run


class AlarmNote(BaseModel):
    """What is noted of a step."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    """Of the artifact."""
    sounded: dict[str, str] = {}
    """Alarm -> in words."""
    names: tuple[str, ...] = ()
    """Alarms at which it paused."""
    paused: str = ""
    """The last of them in words, until it goes on."""
    untold: str = ""
    """The same, until a person was told."""


def note_of(run: Run, step: Step, key: str) -> AlarmNote:
    """What is noted of an artifact; an empty note where nothing is."""
    note = _read(run, step)
    return note if note is not None and note.key == key else AlarmNote(key=key)


def alarms_noted(run: Run, step: Step, key: str) -> frozenset[str]:
    """Names of the alarms at which this artifact paused already."""
    return frozenset(note_of(run, step, key).names)


def note_sounded(run: Run, step: Step, key: str, sounding: Mapping[str, str]) -> None:
    """Say that alarms sound, name -> in words."""
    note = note_of(run, step, key)
    _write(run, step, note.model_copy(update={"sounded": {**note.sounded, **sounding}}))


def note_alarms(run: Run, step: Step, key: str, *, names: frozenset[str], words: str) -> None:
    """Say, before a stage ends for it, at what it paused."""
    note = note_of(run, step, key)
    names |= frozenset(note.names)
    _write(run, step, note.model_copy(update={"names": tuple(sorted(names)), "paused": words, "untold": words}))


def note_going_on(run: Run, step: Step, key: str) -> None:
    """Say that a step that paused goes on."""
    note = note_of(run, step, key)
    if note.paused:
        _write(run, step, note.model_copy(update={"paused": ""}))


def untold_alarm(run: Run, step: Step) -> str | None:
    """In words, an alarm at which today's artifact of a step paused and that nobody was told yet."""
    note = _of_today(run, step)
    return (note.untold or None) if note is not None else None


def take_alarm(run: Run, step: Step) -> str | None:
    """As `untold_alarm`, and take it as told."""
    note = _of_today(run, step)
    if note is None or not note.untold:
        return None
    _write(run, step, note.model_copy(update={"untold": ""}))
    return note.untold


def paused_at(run: Run, step: Step) -> str:
    """In words, the alarm at which today's artifact of a step stands paused; empty where it does not."""
    note = _of_today(run, step)
    return note.paused if note is not None else ""


def _of_today(run: Run, step: Step) -> AlarmNote | None:
    note = _read(run, step)
    return note if note is not None and note.key == Standings(run).of(step).key else None


def _read(run: Run, step: Step) -> AlarmNote | None:
    try:
        return AlarmNote.model_validate_json(run.store.read(layout.alarm_note(step)))
    except (FileNotFoundError, ValidationError):
        return None


def _write(run: Run, step: Step, note: AlarmNote) -> None:
    run.store.write(layout.alarm_note(step), note.model_dump_json().encode())

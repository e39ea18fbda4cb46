"""The trackers that a run names, for one stage: the same scalars to each, each of them once, and none is waited for."""

import queue
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PurePosixPath

from schemas.digests import digest_json
from schemas.machine import TrackerName
from schemas.plan import Step
from stages.tracking.tracker import Tracked, Tracker
from storage import layout
from storage.local import LocalStore
from storage.run import Run

_IDENTITY_DIGITS = 16
_CLOSING_SECONDS = 10.0
"""A stage that is told to stop has to have saved and ended within 25 seconds."""
_Scalars = tuple[int, Mapping[str, float]]


class Trackers:
    """Tells those that `placement.trackers` names; they are opened with the first figures.

    Args:
        told: the last step that earlier attempts at this artifact logged. What is computed under a key is always the
            same, so up to there all has been told, and is not told again.
    """

    def __init__(self, run: Run, step: Step, key: str, *, told: int) -> None:
        self._stage, self._told = step.stage, told
        self._each = [_opened_late(name, run, step, key) for name in run.config.placement.trackers]

    def scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        """Tell figures by name, at so many training steps since the start of the run."""
        if step <= self._told:
            return
        named = {f"{self._stage}/{name}": float(value) for name, value in values.items()}
        for tracker in self._each:
            tracker.scalars(step, named)

    def close(self) -> None:
        """End of the attempt."""
        for tracker in self._each:
            tracker.close()


class Guarded:
    """A tracker that is opened with its first scalars, and given up, with a line, when anything at all goes wrong."""

    def __init__(self, name: str, open_tracker: Callable[[int], Tracker]) -> None:
        self._name, self._open = name, open_tracker
        self._tracker: Tracker | None = None
        self._given_up = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Pass them on."""
        if self._given_up:
            return
        try:
            if self._tracker is None:
                self._tracker = self._open(step)
            self._tracker.scalars(step, values)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Close it, where it was opened."""
        if self._given_up or self._tracker is None:
            return
        try:
            self._tracker.close()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._given_up = True
        say_given_up(self._name, " ".join(str(error).split()) or type(error).__name__)


class InBackground:
    """A tracker that may wait for a server, in a thread of its own: no training step waits for it."""

    def __init__(self, name: str, tracker: Tracker, *, closing_seconds: float = _CLOSING_SECONDS) -> None:
        self._name, self._tracker, self._closing_seconds = name, tracker, closing_seconds
        self._waiting: queue.SimpleQueue[_Scalars | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Leave them for the thread."""
        if self._thread.ident is None:
            self._thread.start()
        self._waiting.put((step, values))

    def close(self) -> None:
        """Let it finish, for some seconds."""
        if self._thread.ident is None:
            return
        self._waiting.put(None)
        self._thread.join(self._closing_seconds)
        if self._thread.is_alive():
            say_given_up(self._name, f"it did not take all within {self._closing_seconds:g} s of the stage's end")

    def _work(self) -> None:
        while (scalars := self._waiting.get()) is not None:
            self._tracker.scalars(*scalars)
        self._tracker.close()


def say_given_up(name: str, why: str) -> None:
    """Tell the person; the artifact is what it is without it, so the manifest is told nothing."""
    print(f"warning: tracker {name}: {why}; the stage goes on without it", file=sys.stderr, flush=True)


def _opened_late(name: TrackerName, run: Run, step: Step, key: str) -> Tracker:
    def open_tracker(first_step: int) -> Tracker:
        # By name and late: a package that nobody asked for is not even imported.
        tracker: Tracker = import_module(f"stages.tracking.{name}").open_tracker(
            tracked_stage(name, run, step, key), first_step
        )
        return tracker

    guarded = Guarded(name, open_tracker)
    return guarded if name == "tensorboard" else InBackground(name, guarded)


def tracked_stage(name: TrackerName, run: Run, step: Step, key: str) -> Tracked:
    """What a tracker files the scalars of an artifact under."""
    url, record = run.store.url, run.record
    return Tracked(
        run=PurePosixPath(url).name,
        identity=digest_json([url, record.config_digest, record.pins])[:_IDENTITY_DIGITS],
        project=run.config.placement.tracking_project,
        logs=run.store.root / layout.tracker_folder(name) if isinstance(run.store, LocalStore) else None,
        stage=step.stage,
        artifact=layout.event_suffix(step, key),
    )

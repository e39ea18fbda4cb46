"""Writes a stage's heartbeat while it works, from a thread of its own."""

import contextlib
import os
import socket
import threading
import uuid
from types import TracebackType
from typing import Self

from schemas.errors import UnreachableError
from schemas.plan import Step
from storage import layout
from storage.heartbeat import BEAT_SECONDS, Heartbeat, write_heartbeat
from storage.run import Run

_LAST_BEAT_SECONDS = 1.0


class Heart:
    """Beats from entering to leaving; `at` tells it how far the stage is."""

    def __init__(self, run: Run, step: Step) -> None:
        self._run, self._step = run, step
        attempt = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._now = Heartbeat(attempt=attempt, beat=0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def at(self, *, unit: str, done: int, total: int, figures: str) -> None:
        """The stage is so far; shown with the next beat."""
        self._now = self._now.model_copy(update={"unit": unit, "done": done, "total": total, "figures": figures})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        # Where storage was given up, a beat may go on waiting for it; nobody waits for the beat.
        self._thread.join(_LAST_BEAT_SECONDS if isinstance(error, UnreachableError) else None)
        with contextlib.suppress(OSError):
            self._run.store.delete(layout.heartbeat(self._step))

    def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            # A full or lost disk stops the stage at its own next save, with a message; not here.
            with contextlib.suppress(OSError):
                write_heartbeat(self._run, self._step, self._now.model_copy(update={"beat": number}))
            if self._ended.wait(BEAT_SECONDS):
                return

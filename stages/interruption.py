"""Stopping on request: a signal is noted, the stage saves at its next safe point and ends as preempted."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from schemas.errors import EXIT_INTERRUPTED, PreemptedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Set by SIGTERM or SIGINT, looked at by the stage between two pieces of work."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._work_taken = threading.Event()
        self.still_held: Callable[[], bool] = lambda: True
        """Whether the lease of the work is this process', asked of storage."""

    def give_way(self) -> None:
        """Ask the stage to stop and leave what is saved alone: another process has gone on from there."""
        self._work_taken.set()
        self.ask()

    @property
    def work_taken(self) -> bool:
        """Whether another process has taken the work over."""
        return self._work_taken.is_set()

    def owns_work(self) -> bool:
        """Whether the work is still this process': to be asked before something is saved."""
        if not self.work_taken and not self.still_held():
            self.give_way()
        return not self.work_taken

    def ask(self) -> None:
        """Ask the stage to stop at its next safe point."""
        self._requested.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._requested.is_set()

    def check(self, saved: str = "what was done is saved") -> None:
        """Raise PreemptedError if somebody asked.

        Args:
            saved: what the next attempt will find, where that is not all that was done.
        """
        if self.asked:
            raise PreemptedError(
                "stopped; another process has taken the work over while this one stood still, and goes on with it"
                if self.work_taken
                else f"stopped; {saved}"
            )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """The first signal asks, a second Ctrl-C ends at once. Outside the main thread signals stay as they are."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        # Job managers signal a process and its parent, so a second SIGTERM says nothing new.
        if request.asked and number == signal.SIGINT:
            os._exit(EXIT_INTERRUPTED)
        request.ask()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent(parent: int | None = None, poll_seconds: float = 1.0) -> None:
    """Stop as if by SIGTERM when the parent process is gone, so that a killed flow leaves no orphan at work.

    Args:
        parent: who started this process; it may be gone by now. None: the parent that it has now.
    """
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll_seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

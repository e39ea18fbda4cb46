"""A stage as a child process in a process group of its own: what it does to its process stays there."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque

from flows.watch import Watch
from schemas.errors import (
    EXIT_INTERRUPTED,
    EXIT_LOST_PEER,
    EXIT_PREEMPTED,
    PreemptedError,
    StageCrashedError,
    StageFailedError,
)
from schemas.stages import StageRequest

GRACE_SECONDS = 120.0
"""How long a stage may take to finish its step and save, once asked to stop."""
_LOOK_SECONDS = 2.0


def launch(request: StageRequest, watch: Watch, *, grace: float = GRACE_SECONDS) -> None:
    """Run a stage and wait; when this process is asked to stop, let the stage save and end first.

    Args:
        grace: seconds for that; a stage that has not ended then is killed.

    Raises:
        PreemptedError: the stage stopped on request.
        StageCrashedError: it was killed.
        StageFailedError: it ended without its artifact; its own message has been printed.
    """
    name = watch.step.name
    watch.say(f"{name}: starting")
    child = subprocess.Popen(
        request.command(),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE if watch.capture else None,
        text=True,
        errors="replace",  # a library may print anything, and a reader that stopped would block the stage
    )
    lines = _Lines(child, watch)
    try:
        code = _wait(child, watch)
    # Ctrl-C arrives as KeyboardInterrupt, SIGTERM under Prefect as an exception of its own.
    except BaseException as reason:
        if child.poll() is None:
            watch.say(f"{name}: stopping, as soon as it has saved; asked again, what is not saved is lost")
        saved = stop(child, grace) in (0, EXIT_PREEMPTED)
        raise PreemptedError(f"{name}: stopped" + ("" if saved else " before it could save")) from reason
    finally:
        lines.drain()
    if code == EXIT_PREEMPTED:
        raise PreemptedError(f"{name}: stopped")
    if (number := _signal(code)) is not None:
        why = " (most often because the machine ran out of memory)" if number == signal.SIGKILL else ""
        raise StageCrashedError(f"{name}: ended by {number.name}{why}; the same command goes on from there")
    if code == EXIT_LOST_PEER:
        raise StageCrashedError(f"{name}: lost one of its processes; the same command goes on from there")
    if code:
        raise StageFailedError(f"{name}: failed: {lines.last.removeprefix(f'{name}: ') or 'see above'}", exit_code=code)


def _signal(code: int) -> signal.Signals | None:
    """The signal that ended a stage: its own process, or as a shell has it (128 + n) one of several."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in set(signal.Signals) and code != EXIT_INTERRUPTED else None


def _wait(child: "subprocess.Popen[str]", watch: Watch) -> int:
    while True:
        try:
            return child.wait(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            watch.look()


def stop(child: "subprocess.Popen[str]", grace: float) -> int:
    """TERM for the stage, then KILL for its whole group when the grace is over or somebody insists."""
    deadline = time.monotonic() + grace
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    while child.poll() is None and time.monotonic() < deadline:
        try:
            time.sleep(0.1)
        except BaseException:  # asked a second time: no more waiting
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


class _Lines:
    """Hands on what a captured stage prints, and keeps its last words."""

    def __init__(self, child: "subprocess.Popen[str]", watch: Watch) -> None:
        self._kept: deque[str] = deque(maxlen=1)
        self._thread: threading.Thread | None = None
        if child.stderr is not None:
            stream = child.stderr

            def hand_on() -> None:
                for line in stream:
                    if text := line.rstrip():
                        self._kept.append(text)
                        watch.say(text)

            self._thread = threading.Thread(target=hand_on, name="stage-lines", daemon=True)
            self._thread.start()

    @property
    def last(self) -> str:
        return self._kept[-1] if self._kept else ""

    def drain(self) -> None:
        """Until the pipe is closed; a grandchild that holds it open is not waited for long."""
        if self._thread is not None:
            self._thread.join(timeout=10)

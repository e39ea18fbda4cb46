"""A stage as a child process in a process group of its own: what it does to its process stays there."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from schemas.errors import EXIT_PREEMPTED, PreemptedError, StageFailedError
from schemas.plan import step_name
from schemas.stages import StageRequest

GRACE_SECONDS = 120.0
"""How long a stage may take to finish its step and save, once asked to stop."""


def command(request: StageRequest) -> list[str]:
    """The command line of a stage. -P keeps the working directory out of the module path."""
    parts = [sys.executable, "-P", "-m", "stages", request.stage, "--run", request.run, "--with-parent"]
    if request.cycle is not None:
        parts += ["--cycle", str(request.cycle)]
    return [*parts, "--force"] if request.force else parts


def launch(request: StageRequest) -> None:
    """Run a stage and wait; when this process is asked to stop, let the stage save and end first.

    Raises:
        PreemptedError: the stage stopped on request.
        StageFailedError: it ended without its artifact; its own message has been printed.
    """
    name = step_name(request.stage, request.cycle)
    print(f"{name}: starting", file=sys.stderr, flush=True)
    child = subprocess.Popen(command(request), start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        code = child.wait()
    # Ctrl-C arrives as KeyboardInterrupt, SIGTERM under Prefect as an exception of its own.
    except BaseException as reason:
        saved = stop(child) in (0, EXIT_PREEMPTED)
        raise PreemptedError(f"{name}: stopped" + ("" if saved else " before it could save")) from reason
    if code == EXIT_PREEMPTED:
        raise PreemptedError(f"{name}: stopped")
    if code < 0:
        raise StageFailedError(f"{name}: ended by {signal.Signals(-code).name}; the same command goes on from there")
    if code:
        raise StageFailedError(f"{name}: failed, see above", exit_code=code)


def stop(child: "subprocess.Popen[bytes]") -> int:
    """TERM for the stage, then KILL for its whole group when the grace is over or somebody insists."""
    deadline = time.monotonic() + GRACE_SECONDS
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

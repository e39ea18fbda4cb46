"""Several processes for one stage on this machine, as torchrun would start them, and one exit code for all.

torchrun itself serves several machines (docs/distributed.md). Here its agent would turn "stopped, all is saved" and
"a photograph is gone" alike into exit code 1 and a table of its own.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from schemas.errors import EXIT_LOST_PEER, EXIT_PREEMPTED
from schemas.stages import StageRequest
from stages.interruption import StopRequest, stop_on_signals
from stages.scratch import lock_of_folder, own_temporary_folder
from stages.team import MEETING_FILE

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 15.0
"""How long the others may take to end when one has failed: they have nothing to save that is not saved already."""
_SHOWN_LINES = 30

Worker = subprocess.Popen[bytes]


def run_workers(request: StageRequest, count: int) -> int:
    """Run a stage in `count` processes and wait for all.

    Returns:
        0 when all are done, 75 when they stopped on request, else the exit code of the process that failed first, as
        a shell has it: 128 + n where signal n ended it.
    """
    own_temporary_folder()
    with tempfile.TemporaryDirectory() as folder, stop_on_signals() as stop:
        with _started(request, count, Path(folder)) as workers:
            failed = _wait(workers, stop)
        codes = [worker.returncode for worker in workers]
        if failed is None:
            return EXIT_PREEMPTED if any(codes) else 0
        if failed and codes[failed] != EXIT_LOST_PEER:
            _show(_words(Path(folder), failed), failed, codes[failed])
        return codes[failed] if codes[failed] >= 0 else 128 - codes[failed]


def _wait(workers: list[Worker], stop: StopRequest) -> int | None:
    """Until all have ended, or one has failed; its number then."""
    told = False
    while True:
        codes = [worker.poll() for worker in workers]
        # A signal may come before a process can tell what it is about, or when it has stopped by itself.
        fine = (None, 0, EXIT_PREEMPTED, *((-signal.SIGTERM,) if stop.asked or told else ()))
        failures = [n for n, code in enumerate(codes) if code not in fine]
        if failures:
            # Who lost a peer is not the one to ask, unless nobody else has anything to say.
            time.sleep(_LOOK_SECONDS)
            failures = [n for n, worker in enumerate(workers) if worker.poll() not in fine]
            return next((n for n in failures if codes[n] not in (None, EXIT_LOST_PEER)), failures[0])
        if all(code is not None for code in codes):
            return None
        if not told and (stop.asked or EXIT_PREEMPTED in codes):
            told = True
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _started(request: StageRequest, count: int, folder: Path) -> Iterator[list[Worker]]:
    """The processes, in the caller's own process group; none outlives the block."""
    environment = os.environ | {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    environment[MEETING_FILE] = str(folder / "meeting")
    workers: list[Worker] = []
    with ExitStack() as files:
        try:
            for rank in range(count):
                # The first one speaks for all; another is quoted when it fails.
                words = files.enter_context(_words(folder, rank).open("wb")) if rank else None
                workers.append(
                    subprocess.Popen(
                        request.command(),
                        env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                        stdout=words,
                        stderr=words,
                        pass_fds=[lock_of_folder()],
                    )
                )
            yield workers
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.terminate()
            deadline = time.monotonic() + _GRACE_SECONDS
            for worker in workers:
                try:
                    worker.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    worker.kill()
                    worker.wait()


def _words(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.txt"


def _show(words: Path, rank: int, code: int) -> None:
    """What a process that failed said: its last line, or all of a traceback."""
    lines = words.read_text(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
    if code < 0:
        lines = [f"ended by {signal.Signals(-code).name}"]
    elif not any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    for line in lines:
        print(f"process {rank}: {line}", file=sys.stderr, flush=True)

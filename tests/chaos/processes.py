"""The processes of an attempt: found by their mark, whoever their parent is; stopped, continued, killed."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.subject import MARK


@dataclass(frozen=True)
class Process:
    """A living process."""

    pid: int
    command: tuple[str, ...]

    @property
    def is_stage(self) -> bool:
        """Whether it computes a stage: the starter of several too, and data loaders."""
        return "stages" in self.command or any("forkserver" in part for part in self.command)


def processes(mark: str) -> list[Process]:
    """All living processes whose mark opens so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment:
            found.append(Process(int(folder.name), tuple(command.split("\0"))))
    return sorted(found, key=lambda process: process.pid)


def send(number: signal.Signals, pids: list[int]) -> int:
    """Signal those that are still there; how many that were."""
    sent = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent += 1
    return sent


def await_(condition: Callable[[], object], *, seconds: float, what: str) -> float:
    """Poll until the condition holds; returns how long it took.

    Raises:
        TimeoutError: it did not, in time.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)
    return time.monotonic() - started

"""Errors that a person can mend, and the exit codes that go with them.

Each message is one line: what is wrong, where, what to do. Each class also is the builtin it specialises.
"""

DEBUG = "CYBORGS_DEBUG"
"""Environment variable: when set, tracebacks are shown."""

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_PAUSED = 3
"""Stopped for a look, as placement.pause_after or pause_on_alarm asked: the same command goes on when it is given."""
EXIT_PREEMPTED = 75
"""Stopped on request with its progress saved: start again, not a failure (sysexits' EX_TEMPFAIL)."""
EXIT_LOST_PEER = 76
"""Another process of the same stage ended first; its own message says why."""
EXIT_INTERRUPTED = 130
"""The conventional code of a command that ended at Ctrl-C."""


class CyborgsError(Exception):
    """Something the user can mend."""

    exit_code = EXIT_BAD_INPUT


class ConfigError(CyborgsError, ValueError):
    """A setting that is unknown, out of range or at odds with another."""


class DataError(CyborgsError, ValueError):
    """Photographs or annotations that cannot be used as they are."""


class PhotographChangedError(DataError, OSError):
    """A photograph is gone, or is no longer the one that was indexed."""


class RunError(CyborgsError, RuntimeError):
    """The run on storage is not in the state that was asked for."""


class UnreachableError(RunError, OSError):
    """Storage does not answer, or refuses: what stands there is not known."""


class DamagedArtifactError(RunError, OSError):
    """A file of a committed artifact is missing or not what its manifest says."""


class MachineError(CyborgsError, RuntimeError):
    """The machine ran out of something, or lost a part of itself."""


class StageFailedError(CyborgsError, RuntimeError):
    """A stage ended without its artifact; its own message has been printed already."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StageCrashedError(StageFailedError):
    """A stage's process was killed: out of memory, most often. Not its own doing, so it may be tried again."""


class PausedError(CyborgsError, RuntimeError):
    """A stage is done after which the run was to stop for a look, or it stopped at an alarm."""

    exit_code = EXIT_PAUSED


class PreemptedError(CyborgsError, RuntimeError):
    """Stopped on request; what was reached is saved and the same command goes on from there."""

    exit_code = EXIT_PREEMPTED

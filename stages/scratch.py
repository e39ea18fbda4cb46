"""A temporary folder of a stage's own: what a killed process leaves in it is swept by the next one.

Libraries put sockets, pipes and logs into the machine's temporary folder, and clean up at an exit that SIGKILL skips.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

from schemas.errors import RunError
from storage.provenance import user

_PREFIX = ".cyborgs-tmp-"
"""Nobody calls a folder of their own so: what is swept may not be anybody's runs or photographs."""
_AFTER_MULTIPROCESSING = -101
"""At the end of a process, priorities run from high to low: that folder has -100."""
_held: list[int] = []
"""The lock of this process' folder. Children inherit it where they are given it, so the folder lasts as they do."""


def own_temporary_folder() -> Path:
    """Let this process' temporary files go to a folder that is removed with it; made once.

    Raises:
        RunError: the machine's temporary folder is full, or closed, or knows no locks.
    """
    if not _held:
        sweep()
        try:
            # What torch compiled stays for the next stage.
            compiled = Path(tempfile.gettempdir()) / f"torchinductor_{user()}"
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled))
            folder, lock = _make()
        except OSError as error:
            raise RunError(
                f"no temporary folder can be made: {error.strerror or error}; free some space, or name one by TMPDIR"
            ) from error
        _held.append(lock)
        tempfile.tempdir = str(folder)
        # After multiprocessing has removed its own folder in there, of which it makes a traceback where it is gone.
        Finalize(None, shutil.rmtree, [folder], {"ignore_errors": True}, exitpriority=_AFTER_MULTIPROCESSING)
    return Path(tempfile.gettempdir())


def sweep() -> None:
    """Remove the folders of processes that are gone."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # another user's
                lock = _lock(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def lock_of_folder() -> int:
    """The descriptor to hand to children that use the folder too."""
    return _held[0]


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Somebody who sweeps may have come between the two.
        try:
            lock = _lock(folder)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RunError(
                f"temporary folder {folder.parent}: nothing can be locked there ({error.strerror or error}); "
                "name a folder on a disk of this machine by TMPDIR"
            ) from error
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Hold a folder; None where another process does, or has removed it.

    Raises:
        OSError: it may not be opened, or its file system knows no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor

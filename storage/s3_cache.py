"""What of a run on S3 is kept on this machine's disk: copies of files that were read, and folders being written.

Everything here can be made again at any time, and nothing of it is taken for true without asking the server.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.digests import digest_bytes, digest_json
from schemas.errors import RunError
from storage.cache import cache_folder

UNUSED_SECONDS = 3600.0
"""Copies that nobody has asked for in this time are removed."""
_LOCK = ".lock"


@dataclass(frozen=True)
class Known:
    """What the bytes of a file were when the server gave it this etag."""

    etag: str
    bytes: int
    digest: str


class Copies:
    """Copies of a run's files, shared by all processes of this machine. Each has a record beside it of the etag that it
    was read with and of its digest, so that neither an old copy nor a damaged one is served.
    """

    def __init__(self, url: str) -> None:
        self._root = cache_folder() / "s3" / digest_json(url)

    def path(self, path: str) -> Path:
        """Where the copy of a file or folder is."""
        return self._root / "files" / path

    def find(self, path: str, etag: str) -> Known | None:
        """The record of a whole copy of today's file; the copy counts as used now."""
        record, copy = self._record(path), self.path(path)
        try:
            known = Known(**json.loads(record.read_bytes()))
            if known.etag != etag or digest_bytes(copy.read_bytes()) != known.digest:
                return None
            os.utime(copy)
            os.utime(record)
        except (OSError, ValueError, TypeError):
            return None
        return known

    def keep(self, path: str, data: bytes, known: Known) -> None:
        """Put a copy in place of the one before."""
        put_file(self.path(path), data)
        put_file(self._record(path), json.dumps(asdict(known)).encode())

    def forget(self, path: str, keep: set[str]) -> None:
        """Remove the copies at and below a path, except those."""
        root = self.path("")
        target = self.path(path)
        files = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
        for file in files:
            if file.relative_to(root).as_posix() not in keep:
                file.unlink(missing_ok=True)
                self._record(file.relative_to(root).as_posix()).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what has not been used for a while."""
        for folder in (self._root / "files", self._root / "records"):
            for path in sorted(folder.rglob("*"), reverse=True):
                with contextlib.suppress(OSError):
                    if path.is_file() and time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                        path.unlink()

    def _record(self, path: str) -> Path:
        return self._root / "records" / f"{path}.json"


class Workspace:
    """A folder of one store in one process, for files that are being made. It goes with the store; what a killed
    process left, the next one removes.
    """

    def __init__(self) -> None:
        """Make it.

        Raises:
            RunError: the cache may not be written, or knows no locks.
        """
        root = cache_folder() / "s3" / "work"
        try:
            root.mkdir(parents=True, exist_ok=True)
            _sweep_dead(root)
            self.root = _make_locked(root)
        except OSError as error:
            raise RunError(
                f"cache {root}: no folder can be made and locked there ({error.strerror or error}); "
                "name a folder on a disk of this machine with CYBORGS_CACHE"
            ) from error
        weakref.finalize(self, _remove, self.root, os.getpid())

    def path(self, path: str) -> Path:
        """Where a file or folder of the run is made."""
        return self.root / "files" / path


def _sweep_dead(root: Path) -> None:
    """Remove the workspaces of processes that are gone: those whose lock can be had."""
    for folder in root.iterdir():
        with contextlib.suppress(OSError):  # another user's
            descriptor = _try_lock(folder)
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _make_locked(root: Path) -> Path:
    """A new folder, its lock held until this process ends."""
    while True:
        folder = root / uuid.uuid4().hex
        folder.mkdir()
        try:
            descriptor = _try_lock(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if descriptor is not None:
            if (folder / _LOCK).exists():
                return folder
            os.close(descriptor)  # another process took it for a dead one's before it was locked


def _try_lock(folder: Path) -> int | None:
    """Hold a folder; None where another process does, or has removed it.

    Raises:
        OSError: it may not be written, or its file system knows no locks.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not a forked child's copy of it
        shutil.rmtree(folder, ignore_errors=True)


def put_file(path: Path, data: bytes) -> None:
    """Put a file in place at once, folders made as needed.

    Raises:
        RunError: the disk is full, or may not be written.
    """
    aside = path.parent / f".partial-{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"cache {path.parent} cannot be written: {error.strerror}; "
            "make room there, or name another folder with CYBORGS_CACHE"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)

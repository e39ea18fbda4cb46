"""A run on a local or mounted disk."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from schemas.errors import RunError
from storage.store import Store

_ASIDE = ".partial-"
"""Opens the names of files that are being written: a killed writer leaves one, `folder` sweeps it."""
_POLL_SECONDS = 0.5


class LocalStore(Store):
    """Files are written aside, fsynced and renamed; manifests are hard-linked into place, so the first wins."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def _resolve(self, path: str) -> Path:
        resolved = self.root / path
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise ValueError(f"{path!r} leads out of the run")
        return resolved

    def read(self, path: str) -> bytes:
        return self._resolve(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        with self._aside(path, data) as (aside, final):
            aside.replace(final)

    def create(self, path: str, data: bytes) -> bool:
        with self._aside(path, data) as (aside, final):
            try:
                os.link(aside, final)
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
        return True

    @contextmanager
    def _aside(self, path: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        final = self._resolve(path)
        _make_folder(final.parent)
        aside = final.parent / f"{_ASIDE}{uuid.uuid4().hex}"
        try:
            with _open_locked(aside) as file:  # until it is in place: nobody sweeps what is being written
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                yield aside, final
            _sync_folder(final.parent)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _explain(error, final) from error

    def size(self, path: str) -> int | None:
        try:
            return self._resolve(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, folder: str) -> list[str]:
        # Folders that go while one looks are passed over: another process may sweep, or give a lease back.
        found = [
            Path(place, name)
            for place, _, names in os.walk(self._resolve(folder))
            for name in names
            if not name.startswith(_ASIDE)
        ]
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def delete(self, path: str) -> None:
        target = self._resolve(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                target.unlink()

    def folder(self, path: str) -> Path:
        target = self._resolve(path)
        _make_folder(target)
        self.sweep(path)
        return target

    def sweep(self, path: str) -> None:
        for leftover in self._resolve(path).rglob(f"{_ASIDE}*"):
            if leftover.is_symlink() or not _is_locked(leftover):
                leftover.unlink(missing_ok=True)

    def publish(self, path: str) -> None:
        target = self._resolve(path)
        entries = [target, *target.rglob("*")] if target.is_dir() else [target, target.parent]
        for entry in entries:
            _sync(entry)

    def fetch(self, path: str) -> Path:
        target = self._resolve(path)
        if not target.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        return target

    def point(self, path: str, target: str) -> None:
        link = self._resolve(path)
        if link.exists() and not link.is_symlink():
            return  # a person put something of their own there
        aside = link.parent / f"{_ASIDE}{uuid.uuid4().hex}"
        try:
            aside.symlink_to(os.path.relpath(self._resolve(target), link.parent))
            aside.replace(link)
        except OSError as error:
            raise _explain(error, link) from error

    def unpoint(self, path: str) -> None:
        link = self._resolve(path)
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        place = self.root
        while not place.exists() and place != place.parent:
            place = place.parent
        return shutil.disk_usage(place).free

    @contextmanager
    def lease(
        self,
        path: str,
        *,
        waiting: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        del lost  # the system keeps a lock for as long as its holder lives
        final = self._resolve(path)
        _make_folder(final.parent)
        told = False
        while (descriptor := _try_lock(final)) is None:
            if not told and waiting is not None:
                waiting(_holder(final))
            told = True
            if check is not None:
                check()
            time.sleep(_POLL_SECONDS)
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock is what counts, the name is for people
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            final.unlink(missing_ok=True)
            os.close(descriptor)

    def holder(self, path: str) -> str | None:
        lease = self._resolve(path)
        return _holder(lease) if _is_locked(lease) else None


def _open_locked(path: Path) -> BinaryIO:
    """A new file under a lock; made again where somebody swept it before it had one."""
    while True:
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file we opened: then our lock is on a ghost.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain(error, path) from error


def _sync(path: Path) -> None:
    if path.is_dir():
        _sync_folder(path)
    else:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> OSError:
    """The two mishaps of long runs, said plainly; any other error as it came."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _StorageFullError(f"no space left for {path}: free some and give the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _StorageClosedError(f"{path} cannot be written: {error.strerror}; choose another --run")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return _StorageClosedError(f"{path} cannot be made: a file stands in the way; choose another --run")
    return error


class _StorageFullError(RunError, OSError):
    """The disk is full."""


class _StorageClosedError(RunError, PermissionError):
    """The place may not be written."""

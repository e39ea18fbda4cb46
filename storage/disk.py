"""What a disk is asked beyond plain writes: locks, entries that outlive a power cut, and its errors in plain words."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from schemas.errors import RunError

_NOT_THERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks or links say."""
_ELSEWHERE = "keep the run on a local disk, on NFS from version 4, or on s3://"


def open_locked(path: Path) -> BinaryIO:
    """A new file under a lock; made again where somebody swept it before it had one."""
    while True:
        file = path.open("xb")
        try:
            _lock(file.fileno(), path, fcntl.LOCK_EX)
        except OSError:
            file.close()
            raise
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def is_locked(path: Path) -> bool:
    """Whether a living process holds a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        _lock(descriptor, path, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def try_lock(path: Path) -> int | None:
    """Make a file where there is none, and hold it; None where another process does.

    Raises:
        RunError: files cannot be locked there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file we opened: then our lock is on a ghost.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock(descriptor: int, path: Path, how: int) -> None:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise _LackingError(f"{path}: files cannot be locked there ({error.strerror}): {_ELSEWHERE}") from error
        raise


def link(source: Path, target: Path) -> None:
    """Give a file a second name, where nothing has it.

    Raises:
        FileExistsError: something has.
        RunError: the file system knows no second names.
    """
    try:
        os.link(source, target)
    except OSError as error:
        # EPERM is what Linux says of FAT, exFAT and many a mounted share.
        if error.errno in (errno.EPERM, *_NOT_THERE):
            raise _LackingError(f"{target}: the file system there has no hard links: {_ELSEWHERE}") from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they outlive a power cut.

    Raises:
        RunError: it cannot be made.
    """
    with explained(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            with contextlib.suppress(PermissionError):  # one may enter and write where one may not look
                sync_folder(folder.parent)


def sync(path: Path) -> None:
    """Let the content of a file, or the entries of a folder, outlive a power cut."""
    if path.is_dir():
        sync_folder(path)
    else:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Let the entries of a folder outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """The mishaps of long runs while `path` is written, said plainly; any other error as it came."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise _explain(error, path) from error


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """What keeps `path` from being read, said plainly; a file that is not there, as it came."""
    try:
        yield path
    except (PermissionError, IsADirectoryError) as error:
        raise _StorageClosedError(f"{path} cannot be read: {error.strerror}; see whose it is, or mend it") from error


def _explain(error: OSError, path: Path) -> OSError:
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


class _LackingError(RunError, OSError):
    """The file system cannot do what keeps a run whole."""

"""The contract of a place that holds a run, whatever is behind it.

Paths are relative to the run's root, with forward slashes. Every backend passes tests/storage/store_contract.py.
"""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from schemas.digests import digest_bytes
from schemas.errors import RunError
from storage.disk import explained, sync_folder


class Store(ABC):
    """Whole files in, whole files out; nobody ever sees half of one."""

    url: str
    """Path or URL of the root, as a person would type it."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Put a file in place, durably and at once; replaces what stands there."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Put a file in place only where none stands; False if one does. Exactly one of many callers wins."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Bytes of a file, None where there is none."""

    @abstractmethod
    def list(self, folder: str) -> list[str]:
        """All files below a folder, sorted, relative to the root; leftovers of killed writers excluded."""

    def sizes(self, folder: str) -> dict[str, int]:
        """All files below a folder with their bytes, as `list` names them."""
        return {path: size for path in self.list(folder) if (size := self.size(path)) is not None}

    def digests(self, folder: str) -> dict[str, tuple[int, str]]:
        """All files below a folder with bytes and digest, as they stand now."""
        found = {}
        for path in self.list(folder):
            with contextlib.suppress(FileNotFoundError):  # given back since: a lease
                data = self.read(path)
                found[path] = len(data), digest_bytes(data)
        return found

    def appender(self, path: str) -> "Appender":
        """Write a log, a line at a time; a log that got no line leaves no file."""
        return FileAppender(self.folder(path.rpartition("/")[0]) / path.rpartition("/")[2])

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; no error where there is none."""

    @abstractmethod
    def folder(self, path: str) -> Path:
        """A local folder with the files of `path`, in which others are made; on a local store it is that folder."""

    @abstractmethod
    def sweep(self, path: str) -> None:
        """Remove what killed writers left half-written below a folder; nothing where a backend leaves no such thing."""

    @abstractmethod
    def publish(self, path: str) -> None:
        """Make what was written in `folder(path)` durable and visible to all."""

    @abstractmethod
    def fetch(self, path: str) -> Path:
        """A file or folder as a local path for reading."""

    @abstractmethod
    def point(self, path: str, target: str) -> None:
        """Let `path` lead to `target` for people who look, where the backend can; never needed to read a run."""

    @abstractmethod
    def unpoint(self, path: str) -> None:
        """Remove a pointer that leads nowhere; nothing where the backend has none."""

    def free_bytes(self) -> int | None:
        """Space that is left, None where there is no such limit or it cannot be told."""
        return None

    @abstractmethod
    def lease(
        self,
        path: str,
        *,
        waiting: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Callable[[], bool]]:
        """Hold `path` alone. While another holds it, wait, telling `waiting` once who does.

        What it gives tells whether it is still held: to be asked before something is saved, since a process that stood
        still may come to that before its `lost` is called.

        `check` is called again and again while waiting, and ends it by raising. `lost` is called, from another thread,
        when somebody takes the lease over because this process stood still for long.
        It saves work only: what stands under a key is deterministic and manifests are create-only.
        """

    @abstractmethod
    def holder(self, path: str) -> str | None:
        """Who holds that lease now, as far as can be seen; None when nobody does."""


class Appender(Protocol):
    """A file that grows by whole lines."""

    def write(self, line: str) -> None:
        """Add a line, given without its end."""

    def flush(self) -> None:
        """Let all lines so far outlive this process."""

    def close(self) -> None:
        """No more lines."""


class FileAppender:
    """On a disk: each line is written at once, so a killed process leaves at most one cut line, the last."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("a", buffering=1)
        self._is_listed = False

    def write(self, line: str) -> None:
        """Add a line."""
        self._file.write(line + "\n")

    def flush(self) -> None:
        """Let every line outlive a power cut too: what is saved next goes on from here."""
        with explained(self._path):
            os.fsync(self._file.fileno())
            if not self._is_listed:
                sync_folder(self._path.parent)
        self._is_listed = True

    def close(self) -> None:
        """Close the file, and remove it where it is empty."""
        self._file.close()
        if self._path.exists() and not self._path.stat().st_size:
            self._path.unlink()


def open_store(url: str) -> Store:
    """The store behind a path or URL.

    Raises:
        RunError: the URL's scheme is not one that a run can be kept on.
    """
    from storage.local import LocalStore

    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url))
    if scheme == "file":
        return LocalStore(Path(rest))
    if scheme == "s3":
        try:
            from storage.s3 import S3Store
        except ImportError as error:
            raise RunError("a run on s3:// needs s3fs, which is not installed: pip install s3fs") from error
        return S3Store(url)
    raise RunError(
        f"run {url}: {scheme}:// is not supported; use a folder, such as runs/{Path(rest).name}, or s3://BUCKET/FOLDER"
    )

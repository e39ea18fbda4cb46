"""Folders of photographs, wherever they lie: on a disk, or below a prefix on S3."""

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from schemas.errors import DataError

if TYPE_CHECKING:
    from storage.s3_connection import Bucket

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MISSING = -1
"""Size of a photograph that is named and not there, or is no file: index-images quarantines it."""


class PhotographFolder(ABC):
    """Photographs by key: the path below the folder, with forward slashes. Picklable, and read by many threads."""

    @abstractmethod
    def place(self, key: str) -> str:
        """Where a photograph is expected, for people."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: it cannot be read.
            UnreachableError: nothing can be, for storage does not answer or refuses.
        """

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes of a file, MISSING where there is none."""

    @abstractmethod
    def walk(self) -> Iterator[tuple[str, int]]:
        """(key, bytes) of files with a photograph's suffix; hidden ones left out.

        Raises:
            DataError: the folder cannot be listed.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is such a folder."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether a file stands where a folder is expected."""


class LocalFolder(PhotographFolder):
    """On a disk; links are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalFolder) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def place(self, key: str) -> str:
        return str(self.path / key)

    def read(self, key: str) -> bytes:
        return read_regular(self.path / key)

    def size(self, key: str) -> int:
        try:
            found = (self.path / key).stat()
        except OSError:
            return MISSING
        return found.st_size if stat.S_ISREG(found.st_mode) else MISSING

    def exists(self) -> bool:
        return self.path.is_dir()

    def is_file(self) -> bool:
        return self.path.exists() and not self.path.is_dir()

    def walk(self) -> Iterator[tuple[str, int]]:
        """Links followed; loops, and links that lead nowhere, do no harm."""
        seen = set()
        pending = [(self.path, "")]
        while pending:
            current, prefix = pending.pop()
            real = os.path.realpath(current)
            if real in seen:
                continue
            seen.add(real)
            try:
                entries = sorted(os.scandir(current), key=lambda entry: entry.name)
            except OSError as error:
                raise DataError(f"--data {current}: cannot be listed: {error.strerror}") from error
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)  # its questions answer False where a link leads nowhere or in circles
                if path.is_dir():
                    pending.append((path, f"{prefix}{entry.name}/"))
                elif path.suffix.lower() in SUFFIXES:
                    if path.is_file():
                        yield f"{prefix}{entry.name}", path.stat().st_size
                    elif path.is_symlink():
                        yield f"{prefix}{entry.name}", MISSING


class S3Folder(PhotographFolder):
    """All objects below a prefix. Holds no connection: each process opens its own."""

    def __init__(self, bucket: "Bucket", prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    @property
    def _base(self) -> str:
        return f"{self._prefix}/" if self._prefix else ""

    def __str__(self) -> str:
        return f"s3://{self._bucket.name}/{self._prefix}".rstrip("/")

    def place(self, key: str) -> str:
        return f"{self}/{key}"

    def read(self, key: str) -> bytes:
        return self._bucket.get(self._base + key)[0]

    def size(self, key: str) -> int:
        found = self._bucket.head(self._base + key)
        return MISSING if found is None else found.bytes

    def exists(self) -> bool:
        return any(True for _ in self._bucket.list(self._base, at_most=1))

    def is_file(self) -> bool:
        return bool(self._prefix) and self._bucket.head(self._prefix) is not None

    def walk(self) -> Iterator[tuple[str, int]]:
        for found in self._bucket.list(self._base):
            key = found.key.removeprefix(self._base)
            hidden = any(part.startswith(".") for part in key.split("/"))
            if not hidden and PurePosixPath(key).suffix.lower() in SUFFIXES and not key.endswith("/"):
                yield key, found.bytes


def is_remote(source: str) -> bool:
    """Whether a data source, or the json of one, lies on S3."""
    return source.startswith("s3://")


def open_folder(path: str) -> PhotographFolder:
    """The folder that a path or URL names, whether it exists or not.

    Raises:
        DataError: a URL that names no bucket or holds credentials, or whose scheme is unknown.
    """
    if "://" not in path:
        return LocalFolder(expand(path))
    bucket, prefix = _split(path)
    return S3Folder(bucket, prefix)


def is_file(path: str) -> bool:
    """Whether a file stands there. Raises DataError as `open_folder`."""
    if "://" not in path:
        return expand(path).is_file()
    bucket, key = _split(path)
    return bool(key) and bucket.head(key) is not None


def read_file(path: str) -> bytes:
    """A file that names photographs, on a disk or on S3.

    Raises:
        DataError: as for `open_folder`.
        OSError: it is not there, or cannot be read.
    """
    if "://" not in path:
        return read_regular(expand(path))
    bucket, key = _split(path)
    return bucket.get(key)[0]


def read_regular(path: Path) -> bytes:
    """The bytes of a file on a disk; a pipe would be waited for, and a device may never end.

    Raises:
        OSError: it cannot be read, or is something other than a file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.read_bytes()


def absolute(path: str) -> str:
    """A path that means the same from any working directory; a URL does already.

    Raises:
        CyborgsError: a URL that may not be written down, for it holds credentials, or cannot be read from.
    """
    if "://" not in path:
        return str(expand(path).absolute())
    _split(path)
    return path.rstrip("/")


def _split(url: str) -> "tuple[Bucket, str]":
    if not is_remote(url):
        raise DataError(f"--data {url}: {url.partition('://')[0]}:// is not supported; use a folder or s3://")
    try:
        from storage.s3_connection import Bucket, split_url
    except ImportError as error:
        raise DataError("photographs on s3:// need s3fs, which is not installed: pip install s3fs") from error
    name, prefix = split_url(url)
    return Bucket(name), prefix


def expand(path: str) -> Path:
    """A path with `~` replaced by the home folder, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)

"""A run on S3: every file is an object, written by one request; local files of it stand in the cache."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TypeVar

from schemas.digests import digest_bytes
from storage import s3_lease
from storage.s3_cache import Copies, Known, Workspace, put_file
from storage.s3_connection import Bucket, Object, split_url
from storage.s3_errors import PreconditionFailedError
from storage.store import Appender, Store

Item = TypeVar("Item")
_REQUESTS_AT_ONCE = 8
_LOG_FLUSH_SECONDS = 30.0
_LOG_PART_BYTES = 1_000_000


class S3Store(Store):
    """Nothing is cached that is not asked for again: a listing, a size and an etag are always the server's."""

    def __init__(self, url: str) -> None:
        name, self._prefix = split_url(url)
        self.url = f"s3://{name}/{self._prefix}".rstrip("/")
        self._bucket = Bucket(name)
        self._known: dict[str, Known] = {}
        self._opened_copies: Copies | None = None
        self._opened_workspace: Workspace | None = None

    def read(self, path: str) -> bytes:
        data, etag = self._bucket.get(self._key(path))
        self._known[_plain(path)] = Known(etag, len(data), digest_bytes(data))
        return data

    def write(self, path: str, data: bytes) -> None:
        etag = self._bucket.put(self._key(path), data)
        self._known[_plain(path)] = Known(etag, len(data), digest_bytes(data))

    def create(self, path: str, data: bytes) -> bool:
        key = self._key(path)
        # Asked first, for servers that do not know conditional writes; those that do decide a race.
        if self._bucket.head(key) is not None:
            return False
        try:
            self._bucket.put(key, data, only_new=True)
        except PreconditionFailedError:
            # The answer to a request may be lost, and the request be made a second time.
            return self._bucket.get(key)[0] == data
        return True

    def size(self, path: str) -> int | None:
        found = self._bucket.head(self._key(path))
        return None if found is None else found.bytes

    def list(self, folder: str) -> list[str]:
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        return {path: found.bytes for path, found in self._objects(folder).items()}

    def digests(self, folder: str) -> dict[str, tuple[int, str]]:
        found = self._objects(folder)
        # What this process has written or read is known by its etag. The rest is read, and most likely used next.
        gone = set()

        def look(item: tuple[str, Object]) -> None:
            try:
                self._copy(item)
            except FileNotFoundError:  # given back since: a lease
                gone.add(item[0])

        _at_once(look, [(path, each) for path, each in found.items() if not self._knows(path, each.etag)])
        return {path: (self._known[path].bytes, self._known[path].digest) for path in sorted(found.keys() - gone)}

    def appender(self, path: str) -> Appender:
        return _ObjectAppender(self, path)

    def delete(self, path: str) -> None:
        key = self._key(path)
        self._bucket.delete(
            [each.key for each in self._bucket.list(key) if each.key == key or each.key.startswith(_folder(key))]
        )

    def folder(self, path: str) -> Path:
        """In this process' own workspace, made equal to what is on S3."""
        found = self._objects(path)
        target = self._workspace.path(_plain(path))
        target.mkdir(parents=True, exist_ok=True)
        for file in [file for file in target.rglob("*") if file.is_file()]:
            name = file.relative_to(self._workspace.path("")).as_posix()
            if name not in found or not self._is_equal(name, found[name]):
                file.unlink()
        _at_once(self._place, [name for name in found if not self._workspace.path(name).exists()])
        return target

    def sweep(self, path: str) -> None:
        """Nothing to do: half an object is never seen, and what a killed process made locally is its own."""

    def publish(self, path: str) -> None:
        """Write what this process made in its workspace at and below `path`, where S3 has something else or nothing."""
        root, target = self._workspace.path(""), self._workspace.path(_plain(path))
        if target.is_file():
            self._put(_plain(path))
            return
        names = [file.relative_to(root).as_posix() for file in target.rglob("*") if file.is_file()]
        found = self._objects(path) if names else {}
        _at_once(self._put, [name for name in names if name not in found or not self._is_equal(name, found[name])])

    def fetch(self, path: str) -> Path:
        """A copy in the cache, held against the server's etag and the digest it was written with."""
        path = _plain(path)
        whole = self._bucket.head(self._key(path)) if path else None
        found = {path: whole} if whole is not None else self._objects(path)
        if not found:
            raise FileNotFoundError(f"{self.url}/{path}: no such file or folder")
        if whole is None:
            self._copies.forget(path, keep=set(found))
        _at_once(self._copy, list(found.items()))
        return self._copies.path(path)

    def point(self, path: str, target: str) -> None:
        """S3 has no links: `cyborgs masks path` tells where today's masks are."""

    def unpoint(self, path: str) -> None:
        """Nothing to do: `point` makes nothing."""

    def lease(
        self,
        path: str,
        *,
        waiting: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Callable[[], bool]]:
        return s3_lease.hold(self._bucket, self._key(path), waiting=waiting, check=check, lost=lost)

    def holder(self, path: str) -> str | None:
        return s3_lease.holder(self._bucket, self._key(path))

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, _plain(path)) if part)

    def _objects(self, folder: str) -> dict[str, Object]:
        """Path below the run -> object, of all below a folder."""
        base = len(self._prefix) + 1 if self._prefix else 0
        return {found.key[base:]: found for found in self._bucket.list(_folder(self._key(folder)))}

    def _knows(self, path: str, etag: str) -> bool:
        return path in self._known and self._known[path].etag == etag

    def _is_equal(self, path: str, found: Object) -> bool:
        """Whether a file of the workspace is known to be what stands on S3."""
        data = self._workspace.path(path).read_bytes()
        return self._knows(path, found.etag) and self._known[path].digest == digest_bytes(data)

    def _place(self, path: str) -> None:
        put_file(self._workspace.path(path), self.read(path))

    def _put(self, path: str) -> None:
        self.write(path, self._workspace.path(path).read_bytes())

    def _copy(self, item: tuple[str, Object]) -> None:
        path, found = item
        known = self._copies.find(path, found.etag)
        if known is None:
            data = self.read(path)
            known = self._known[path]
            self._copies.keep(path, data, known)
        self._known[path] = known

    @property
    def _copies(self) -> Copies:
        if self._opened_copies is None:
            self._opened_copies = Copies(self.url)
            self._opened_copies.sweep()
        return self._opened_copies

    @property
    def _workspace(self) -> Workspace:
        if self._opened_workspace is None:
            self._opened_workspace = Workspace()
        return self._opened_workspace


class _ObjectAppender:
    """Objects do not grow: all lines are written again every half a minute, and a long log goes on in a new one."""

    def __init__(self, store: Store, path: str) -> None:
        stem, dot, suffix = path.rpartition(".")
        self._store, self._name, self._part = store, f"{stem}-{{:05d}}{dot}{suffix}", 0
        self._text, self._unsaved, self._saved = "", False, time.monotonic()

    def write(self, line: str) -> None:
        """Add a line."""
        self._text, self._unsaved = f"{self._text}{line}\n", True
        if time.monotonic() - self._saved > _LOG_FLUSH_SECONDS or len(self._text) > _LOG_PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put all lines of this part."""
        if self._unsaved:
            self._store.write(self._name.format(self._part), self._text.encode())
        self._unsaved, self._saved = False, time.monotonic()
        if len(self._text) > _LOG_PART_BYTES:
            self._text, self._part = "", self._part + 1

    def close(self) -> None:
        """Put what is left."""
        self.flush()


def _plain(path: str) -> str:
    """A path as keys have it.

    Raises:
        ValueError: it leads out of the run.
    """
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts:
        raise ValueError(f"{path!r} leads out of the run")
    return "" if plain == PurePosixPath() else plain.as_posix()


def _folder(key: str) -> str:
    return f"{key}/" if key else ""


def _at_once(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    failed = Event()

    def each(item: Item) -> None:
        if failed.is_set():  # else the next one would wait for a lost server anew
            return
        try:
            work(item)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        for _ in pool.map(each, items):
            pass  # asks each for its error

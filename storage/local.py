"""A run on a local or mounted disk."""

import contextlib
import errno
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.disk import explained, is_locked, link, make_folder, open_locked, readable, sync, sync_folder, try_lock
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
        with readable(self._resolve(path)) as file:
            return file.read_bytes()

    def write(self, path: str, data: bytes) -> None:
        with self._aside(path, data) as (aside, final):
            aside.replace(final)

    def create(self, path: str, data: bytes) -> bool:
        with self._aside(path, data) as (aside, final):
            try:
                link(aside, final)
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
        return True

    @contextmanager
    def _aside(self, path: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        final = self._resolve(path)
        make_folder(final.parent)
        aside = final.parent / f"{_ASIDE}{uuid.uuid4().hex}"
        try:
            with explained(final):
                with open_locked(aside) as file:  # until it is in place: nobody sweeps what is being written
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    yield aside, final
                sync_folder(final.parent)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

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
        make_folder(target)
        self.sweep(path)
        return target

    def sweep(self, path: str) -> None:
        for leftover in self._resolve(path).rglob(f"{_ASIDE}*"):
            if leftover.is_symlink() or not is_locked(leftover):
                leftover.unlink(missing_ok=True)

    def publish(self, path: str) -> None:
        target = self._resolve(path)
        within = target.rglob("*") if target.is_dir() else ()
        # The folders around it too: another library may have made them, and their entries would be gone.
        around = [folder for folder in target.parents if folder.is_relative_to(self.root)]
        for entry in (target, *within, *around):
            sync(entry)

    def fetch(self, path: str) -> Path:
        target = self._resolve(path)
        if not target.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        return target

    def point(self, path: str, target: str) -> None:
        pointer = self._resolve(path)
        if pointer.exists() and not pointer.is_symlink():
            return  # a person put something of their own there
        aside = pointer.parent / f"{_ASIDE}{uuid.uuid4().hex}"
        with explained(pointer):
            aside.symlink_to(os.path.relpath(self._resolve(target), pointer.parent))
            aside.replace(pointer)

    def unpoint(self, path: str) -> None:
        pointer = self._resolve(path)
        if pointer.is_symlink() and not pointer.exists():
            pointer.unlink(missing_ok=True)

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
    ) -> Iterator[Callable[[], bool]]:
        del lost  # the system keeps a lock for as long as its holder lives
        final = self._resolve(path)
        make_folder(final.parent)
        told = False
        while (descriptor := try_lock(final)) is None:
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
            yield lambda: True
        finally:
            final.unlink(missing_ok=True)
            os.close(descriptor)

    def holder(self, path: str) -> str | None:
        lease = self._resolve(path)
        return _holder(lease) if is_locked(lease) else None


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"

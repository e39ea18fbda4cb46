"""A packed, memory-mapped copy of a mask store: a training sample costs a numpy slice, not a Zarr read."""

import errno
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from schemas.digests import seal, unseal
from schemas.errors import DamagedArtifactError, RunError
from storage.cache import cache_folder
from storage.local import LocalStore
from storage.masks import Labels, count_rows, read_rows

_Table = NDArray[np.uint32]
"""(N, 3): height, width and CRC-32 of each label map."""


class PackedMasks:
    """Label maps of all photographs, one after the other in one file. Picklable; opened where it is used."""

    def __init__(self, file: Path, table: _Table) -> None:
        self._file, self._table = str(file), table
        self._ends = np.cumsum(_sizes(table))
        self._data: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._table)

    def __call__(self, row: int) -> Labels:
        """Label map of a photograph: (h, w) uint8.

        Raises:
            DamagedArtifactError: it is not what was packed; the copy is thrown away then.
        """
        if self._data is None:
            self._data = np.memmap(self._file, np.uint8, "r")
        h, w, checksum = (int(number) for number in self._table[row])
        end = int(self._ends[row])
        labels = np.asarray(self._data[end - h * w : end])
        if zlib.crc32(labels.data) != checksum:
            self.remove()
            raise DamagedArtifactError(
                f"{self._file}: the labels of row {row} are damaged; the same command makes this copy anew"
            )
        return labels.reshape(h, w)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_data": None}

    def remove(self) -> None:
        """Delete the copy; whoever has it open keeps it."""
        self._data = None
        Path(self._file).unlink(missing_ok=True)
        Path(self._file).with_suffix(".shapes.npy").unlink(missing_ok=True)


def pack_masks(store: Path, *, name: str, check: Callable[[], None] | None = None) -> PackedMasks:
    """Copy a mask store into the cache, checksums checked, or take the whole copy that is there.

    Args:
        name: of the copy; its own for every run and step, for who made it removes it. Machines may share the cache:
            one process packs it, the others wait for that copy.
        check: called while waiting and between rows; ends both by raising.

    Raises:
        DamagedArtifactError: a row of the store is damaged.
    """
    folder = cache_folder() / "masks"
    file, table = folder / f"{name}.labels", folder / f"{name}.shapes.npy"
    packed = _table_of(file, table)
    if packed is None:
        with LocalStore(folder).lease(f"{name}.lock", check=check):
            packed = _table_of(file, table)
            if packed is None:
                packed = _pack(store, file, table, check or (lambda: None))
    return PackedMasks(file, packed)


def _pack(store: Path, file: Path, table: Path, check: Callable[[], None]) -> _Table:
    packed = np.zeros((count_rows(store), 3), np.uint32)
    # Named after the copy, so that what a killed process left is written over.
    with _aside(file) as out:
        for row, masks in read_rows(store):
            check()
            data = masks.labels.tobytes()
            packed[row] = (*masks.labels.shape, zlib.crc32(data))
            out.write(data)
    with _aside(table) as out:
        encoded = io.BytesIO()
        np.save(encoded, packed)
        out.write(seal(_identity(file) + encoded.getvalue()))
    return packed


def _table_of(file: Path, table: Path) -> _Table | None:
    """The table of a copy that nobody has written to since it was packed; None where there is none.

    The labels themselves are not read here, which takes long: each map is held against its checksum when it is used.
    """
    try:
        content = unseal(table.read_bytes())
        identity = _identity(file)
    except FileNotFoundError:
        return None
    if content is None or not content.startswith(identity):
        return None
    try:
        packed = np.load(io.BytesIO(content[len(identity) :]), allow_pickle=False)
    except ValueError:  # of an earlier version
        return None
    return packed if int(_sizes(packed).sum()) == file.stat().st_size else None


def _sizes(table: _Table) -> NDArray[np.int64]:
    return table[:, 0].astype(np.int64) * table[:, 1]


def _identity(file: Path) -> bytes:
    """What changes when a file is written to or replaced."""
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}\n".encode()


@contextmanager
def _aside(file: Path) -> Iterator[BinaryIO]:
    aside = file.with_name(f".partial-{file.name}")
    try:
        with aside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"no space left in the cache {file.parent}: free some, or name another folder with CYBORGS_CACHE; "
                "the same command goes on from what was saved"
            ) from error
        raise
    finally:
        aside.unlink(missing_ok=True)

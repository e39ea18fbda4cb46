"""A packed, memory-mapped copy of a mask store: a training sample costs a numpy slice, not a Zarr read."""

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from schemas.digests import DIGEST_BYTES, seal, unseal
from schemas.errors import RunError
from storage.cache import cache_folder
from storage.local import LocalStore
from storage.masks import Labels, count_rows, read_rows


class PackedMasks:
    """Label maps of all photographs, one after the other in one file. Picklable; opened where it is used."""

    def __init__(self, file: Path, shapes: np.ndarray) -> None:
        self._file, self._shapes = str(file), shapes
        sizes = shapes.astype(np.int64).prod(axis=1)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._data: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._shapes)

    def __call__(self, row: int) -> Labels:
        """Label map of a photograph: (h, w) uint8."""
        if self._data is None:
            self._data = np.memmap(self._file, np.uint8, "r")
        h, w = self._shapes[row]
        start = int(self._starts[row])
        return np.asarray(self._data[start : start + int(h) * int(w)]).reshape(int(h), int(w))

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
    shapes = _shapes_of_whole(file, table)
    if shapes is None:
        with LocalStore(folder).lease(f"{name}.lock", check=check):
            shapes = _shapes_of_whole(file, table)
            if shapes is None:
                shapes = _pack(store, file, table, check or (lambda: None))
    return PackedMasks(file, shapes)


def _pack(store: Path, file: Path, table: Path, check: Callable[[], None]) -> NDArray[np.uint16]:
    shapes = np.zeros((count_rows(store), 2), np.uint16)
    hasher = _hasher()
    # Named after the copy, so that what a killed process left is written over.
    with _aside(file) as out:
        for row, masks in read_rows(store):
            check()
            shapes[row] = masks.labels.shape
            data = masks.labels.tobytes()
            hasher.update(data)
            out.write(data)
    with _aside(table) as out:
        encoded = io.BytesIO()
        np.save(encoded, shapes)
        out.write(seal(hasher.hexdigest().encode() + encoded.getvalue()))
    return shapes


def _shapes_of_whole(file: Path, table: Path) -> NDArray[np.uint16] | None:
    """The table of a copy in which no byte has changed since it was packed; None where there is none."""
    try:
        content = unseal(table.read_bytes())
        with file.open("rb") as packed:
            digest = hashlib.file_digest(packed, _hasher).hexdigest()
    except FileNotFoundError:
        return None
    if content is None or content[: len(digest)] != digest.encode():
        return None
    shapes: NDArray[np.uint16] = np.load(io.BytesIO(content[len(digest) :]), allow_pickle=False)
    return shapes


def _hasher() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


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

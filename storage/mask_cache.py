"""A packed, memory-mapped copy of a mask store: a training sample costs a numpy slice, not a Zarr read."""

import os
import uuid
from pathlib import Path

import numpy as np

from storage.cache import cache_folder
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


def _is_whole(file: Path, table: Path) -> bool:
    if not (file.exists() and table.exists()):
        return False
    return file.stat().st_size == int(np.load(table, allow_pickle=False).astype(np.int64).prod(axis=1).sum())


def pack_masks(store: Path, *, name: str) -> PackedMasks:
    """Copy a mask store into the cache, checksums checked, or take the whole copy that is there.

    Args:
        name: of the copy; its own for every run and step, for who made it removes it.

    Raises:
        DamagedArtifactError: a row of the store is damaged.
    """
    folder = cache_folder() / "masks"
    file, table = folder / f"{name}.labels", folder / f"{name}.shapes.npy"
    if not _is_whole(file, table):
        folder.mkdir(exist_ok=True)
        shapes = np.zeros((count_rows(store), 2), np.uint16)
        aside = folder / f".partial-{uuid.uuid4().hex}"
        try:
            with aside.open("wb") as out:
                for row, masks in read_rows(store):
                    shapes[row] = masks.labels.shape
                    out.write(masks.labels.tobytes())
                out.flush()
                os.fsync(out.fileno())
            aside.replace(file)
            with aside.open("wb") as out:
                np.save(out, shapes)
            aside.replace(table)
        finally:
            aside.unlink(missing_ok=True)
    return PackedMasks(file, np.load(table, allow_pickle=False))

"""The mask store: label maps on the feature grid (refined ones at image size), one row per photograph, in Zarr v3.

Shapes: N photographs, Hmax x Wmax the largest grid. `labels[i, :h, :w]` with `h, w = grid_size[i]` is the map
of photograph i; the rest repeats its edge.
"""

import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from schemas.errors import DamagedArtifactError

MASK_FORMAT = 1
Labels = NDArray[np.uint8]
_IN_SHARD = re.compile(r"[a-z_]+/c/(\d+)(?:/|$)")
"""A file below the store that holds values, with the number of its shard."""
COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {
    "grid_size": ((2,), "uint16"),
    "image_size": ((2,), "uint32"),
    "clusters": ((), "uint16"),
    "checksum": ((), "uint32"),
}
"""Arrays beside `labels`: shape of a row, dtype."""


class DamagedRowsError(DamagedArtifactError):
    """Rows of a mask store that are not what was written."""

    def __init__(self, path: Path, rows: range, what: str) -> None:
        self.named = f"row {rows.start}" if len(rows) == 1 else f"rows {rows.start} to {rows.stop - 1}"
        self.rows, self._given = rows, (path, rows, what)
        super().__init__(f"{path}: {self.named} {what}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._given


@dataclass(frozen=True)
class MaskRow:
    """Masks of one photograph."""

    labels: Labels
    """(h, w) uint8, 0 <= label < clusters."""
    image_size: tuple[int, int]
    """Height and width of the photograph in pixels, upright."""
    clusters: int
    """K of the group it was clustered in."""


def create_mask_store(
    path: Path, *, rows: int, grid: tuple[int, int], rows_per_shard: int, attributes: dict[str, Any]
) -> None:
    """Make an empty store for `rows` photographs; of one that an earlier attempt made, the rows are kept.

    Args:
        grid: Hmax, Wmax.
        attributes: layer, stride, cycle, and digests of checkpoint, index and config.
    """
    for leftover in path.rglob("*.partial"):
        leftover.unlink()  # of a killed writer: zarr writes aside, then renames
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / path.name
        group = zarr.create_group(store=str(fresh), attributes={"format": MASK_FORMAT, **attributes})
        group.create_array(
            "labels",
            shape=(rows, *grid),
            dtype="uint8",
            chunks=(1, *grid),
            shards=(rows_per_shard, *grid),
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
            dimension_names=("photograph", "row", "column"),
        )
        for name, (columns, dtype) in COLUMNS.items():
            group.create_array(
                name,
                shape=(rows, *columns),
                dtype=dtype,
                chunks=(rows_per_shard, *columns),
                compressors=[ZstdCodec(level=3), Crc32cCodec()],
            )
        # No checksum covers what describes the arrays: it is written again by every attempt.
        for description in sorted(fresh.rglob("zarr.json")):
            place = path / description.relative_to(fresh)
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f"{place.name}.partial")
            aside.write_bytes(description.read_bytes())
            aside.replace(place)


def write_shard(path: Path, first_row: int, shard: list[MaskRow]) -> None:
    """Write all rows of one shard. A writer owns whole shards: two on one shard would lose rows.

    Args:
        first_row: a multiple of the store's rows per shard.
    """
    group = zarr.open_group(str(path), mode="r+")
    _remove_shard(path, first_row // int(_array(group, "labels").shards[0]))
    # Zarr forgets this setting when an array is reopened, and an all-zero chunk would go missing.
    with zarr.config.set({"array.write_empty_chunks": True}):
        labels = _array(group, "labels")
        assert labels.shards is not None and first_row % labels.shards[0] == 0
        height, width = labels.shape[1:]
        rows = slice(first_row, first_row + len(shard))
        labels[rows] = np.stack([pad_to(row.labels, height, width) for row in shard])
        _array(group, "grid_size")[rows] = np.array([row.labels.shape for row in shard], np.uint16)
        _array(group, "image_size")[rows] = np.array([row.image_size for row in shard], np.uint32)
        _array(group, "clusters")[rows] = np.array([row.clusters for row in shard], np.uint16)
        _array(group, "checksum")[rows] = np.array([checksum(row) for row in shard], np.uint32)


def _remove_shard(path: Path, number: int) -> None:
    """Drop what stands in a shard's place: Zarr would read it, damaged as it may be, to keep the other rows."""
    for name in shard_files(number):
        file = path / name
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def shard_files(number: int) -> list[str]:
    """What one shard consists of, below the store: a file or a folder for each array."""
    return [f"{name}/c/{number}" for name in ("labels", *COLUMNS)]


def pad_to(labels: Labels, height: int, width: int) -> Labels:
    """(h, w) -> (height, width), repeating the last row and column."""
    h, w = labels.shape
    return np.pad(labels, ((0, height - h), (0, width - w)), mode="edge")


def checksum(row: MaskRow) -> int:
    """CRC-32 of all that a row says: sizes, clusters, labels."""
    numbers = np.array([*row.labels.shape, *row.image_size, row.clusters], "<u4").tobytes()
    return zlib.crc32(np.ascontiguousarray(row.labels).tobytes(), zlib.crc32(numbers))


def open_masks(path: Path) -> zarr.Group:
    """A committed store for reading.

    Raises:
        DamagedArtifactError: it is not a mask store of this version.
    """
    try:
        group = zarr.open_group(str(path), mode="r")
    except FileNotFoundError as error:
        raise DamagedArtifactError(f"{path}: there is no mask store here") from error
    except Exception as error:  # over a damaged description zarr raises anything: KeyError, TypeError, ValueError
        raise DamagedArtifactError(f"{path}: there is no mask store here that can be read: {error}") from error
    if group.attrs.get("format") != MASK_FORMAT:
        raise DamagedArtifactError(f"{path}: mask store of format {group.attrs.get('format')}, expected {MASK_FORMAT}")
    return group


def read_rows(path: Path, rows: range | None = None) -> Iterator[tuple[int, MaskRow]]:
    """(row, masks) of consecutive rows, read a shard at a time, each held against its checksum.

    Raises:
        DamagedArtifactError: a row is not what was written.
    """
    group = open_masks(path)
    try:
        labels = _array(group, "labels")
    except Exception as error:
        raise DamagedArtifactError(f"{path}: labels cannot be read: {error}") from error
    wanted = rows if rows is not None else range(labels.shape[0])
    step = labels.shards[0] if labels.shards else labels.chunks[0]
    first = wanted.start
    while first < wanted.stop:
        last = min(wanted.stop, (first // step + 1) * step)
        part = slice(first, last)
        try:
            block, grids, sizes, clusters, sums = (
                np.asarray(_array(group, name)[part])
                for name in ("labels", "grid_size", "image_size", "clusters", "checksum")
            )
        except MemoryError:
            raise
        # A damaged chunk surfaces as whatever its codec raises: zstd RuntimeError, crc32c ValueError; a damaged
        # description as anything.
        except Exception as error:
            raise DamagedRowsError(path, range(first, last), f"cannot be read: {error}") from error
        for offset in range(last - first):
            h, w = (int(n) for n in grids[offset])
            height, width = (int(n) for n in sizes[offset])
            row = MaskRow(np.ascontiguousarray(block[offset, :h, :w]), (height, width), int(clusters[offset]))
            if h == 0 or checksum(row) != int(sums[offset]):
                raise DamagedRowsError(path, range(first + offset, first + offset + 1), "is missing or damaged")
            yield first + offset, row
        first = last


def rows_damaged_in(path: Path, file: str) -> str:
    """Which rows a damaged file of a store has cost: `row 17`, or the first of them; empty where none can be named.

    Args:
        file: below the store.
    """
    shard = _IN_SHARD.match(file)
    if shard is None:
        return ""
    try:
        labels = _array(open_masks(path), "labels")
        first = int(shard[1]) * int(labels.shards[0])
        for _ in read_rows(path, range(first, min(first + int(labels.shards[0]), int(labels.shape[0])))):
            pass
    except DamagedRowsError as error:
        return error.named
    except Exception:  # what describes the store is damaged too: the file's name has to do
        return ""
    return ""


def is_store(path: Path) -> bool:
    """Whether a folder is a mask store."""
    return (path / "labels" / "zarr.json").is_file()


def count_rows(path: Path) -> int:
    """Photographs in a store."""
    return int(_array(open_masks(path), "labels").shape[0])


def read_index(path: Path) -> str:
    """Content digest of the index whose photographs a store has, row by row; empty where it says none.

    Raises:
        DamagedArtifactError: it is not a mask store of this version.
    """
    return str(open_masks(path).attrs.get("index") or "")


def _array(group: zarr.Group, name: str) -> Any:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array

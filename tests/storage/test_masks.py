"""The mask store: what is written is read back, a person can open it with zarr alone, and damage is noticed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from schemas.errors import DamagedArtifactError
from storage.masks import (
    MaskRow,
    checksum,
    count_rows,
    create_mask_store,
    open_masks,
    pad_to,
    read_rows,
    write_shard,
)

ROWS, PER_SHARD, GRID = 20, 16, (5, 7)


def mask_rows(count: int = ROWS) -> list[MaskRow]:
    """Maps of all sizes up to the grid, the first two all zero."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        shape = GRID if number == 0 else (int(random.integers(1, 6)), int(random.integers(1, 8)))
        high = 1 if number < 2 else 256
        labels = random.integers(0, high, shape).astype(np.uint8)
        rows.append(MaskRow(labels, (100 + number, 70_000 + number), 256 if number > 1 else 2))
    return rows


def write_store(path: Path, rows: list[MaskRow]) -> Path:
    create_mask_store(
        path, rows=len(rows), grid=GRID, rows_per_shard=PER_SHARD, attributes={"layer": ["layer2.1"], "cycle": 3}
    )
    for first in range(0, len(rows), PER_SHARD):
        write_shard(path, first, rows[first : first + PER_SHARD])
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "masks.zarr", mask_rows())


def assert_same(found: MaskRow, wanted: MaskRow) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    assert found.labels.dtype == np.uint8
    assert (found.image_size, found.clusters) == (wanted.image_size, wanted.clusters)


def test_all_rows_come_back_the_short_last_shard_included(store: Path) -> None:
    assert count_rows(store) == ROWS
    found = list(read_rows(store))
    assert [row for row, _ in found] == list(range(ROWS))
    for (_, masks), wanted in zip(found, mask_rows(), strict=True):
        assert_same(masks, wanted)


def test_a_range_of_rows_across_shards(store: Path) -> None:
    found = dict(read_rows(store, range(14, 18)))
    assert list(found) == [14, 15, 16, 17]
    for row, masks in found.items():
        assert_same(masks, mask_rows()[row])


def test_a_person_opens_it_with_zarr_alone(store: Path) -> None:
    group: Any = zarr.open(str(store))
    labels, sizes = group["labels"], group["grid_size"][:]
    for row, wanted in enumerate(mask_rows()):
        picture = np.asarray(labels[row])
        assert picture.shape == GRID
        h, w = sizes[row]
        np.testing.assert_array_equal(picture[:h, :w], wanted.labels)


def test_beyond_its_map_a_row_repeats_the_edge(store: Path) -> None:
    labels: Any = zarr.open_group(str(store), mode="r")["labels"]
    for row, wanted in enumerate(mask_rows()):
        h, w = wanted.labels.shape
        i, j = np.minimum(np.arange(GRID[0]), h - 1), np.minimum(np.arange(GRID[1]), w - 1)
        np.testing.assert_array_equal(np.asarray(labels[row]), wanted.labels[np.ix_(i, j)])


def test_padding_repeats_last_row_and_column() -> None:
    padded = pad_to(np.array([[1, 2], [3, 4]], np.uint8), 3, 4)
    np.testing.assert_array_equal(padded, [[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4]])


def test_arrays_are_as_documented(store: Path) -> None:
    group = zarr.open_group(str(store), mode="r")
    arrays = {name: (array.shape, str(array.dtype)) for name, array in group.arrays()}
    assert arrays == {
        "labels": ((ROWS, *GRID), "uint8"),
        "grid_size": ((ROWS, 2), "uint16"),
        "image_size": ((ROWS, 2), "uint32"),
        "clusters": ((ROWS,), "uint16"),
        "checksum": ((ROWS,), "uint32"),
    }
    labels = group["labels"]
    assert isinstance(labels, zarr.Array)
    assert labels.chunks == (1, *GRID), "one photograph is one chunk"
    assert labels.shards == (PER_SHARD, *GRID)
    assert labels.metadata.zarr_format == 3
    assert [len(list((store / name / "c").iterdir())) for name in arrays] == [2] * 5, "one file per shard"
    assert dict(group.attrs) == {"format": 1, "layer": ["layer2.1"], "cycle": 3}


def test_maps_of_zeros_are_written_though_zarr_takes_them_for_empty(tmp_path: Path) -> None:
    """A missing chunk also reads as zeros, so only what is on disk tells: a reopened array must write it too."""
    zeros = [MaskRow(np.zeros(GRID, np.uint8), (9, 9), 2)] * PER_SHARD
    path = write_store(tmp_path / "zeros.zarr", zeros)
    assert (path / "labels" / "c" / "0" / "0" / "0").is_file()
    assert all(not masks.labels.any() for _, masks in read_rows(path))


def test_a_shard_of_zeros_that_goes_missing_is_noticed_by_its_sizes(tmp_path: Path) -> None:
    zeros = [MaskRow(np.zeros(GRID, np.uint8), (9, 9), 2)] * PER_SHARD
    path = write_store(tmp_path / "zeros.zarr", zeros)
    shutil.rmtree(path / "grid_size" / "c")
    with pytest.raises(DamagedArtifactError, match="row 0"):
        list(read_rows(path))


def test_every_flipped_byte_of_the_labels_is_noticed(store: Path) -> None:
    file = store / "labels" / "c" / "1" / "0" / "0"
    whole = file.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(DamagedArtifactError, match=r"rows? 1[6-9]"):
            list(read_rows(store, range(16, 20)))
        assert len(list(read_rows(store, range(16)))) == 16, "the other shard is whole"


@pytest.mark.parametrize("array", ["labels", "grid_size", "image_size", "clusters", "checksum"])
def test_a_missing_shard_is_noticed_and_its_row_named(store: Path, array: str) -> None:
    folder = store / array / "c" / "1"
    folder.unlink() if folder.is_file() else shutil.rmtree(folder)
    with pytest.raises(DamagedArtifactError, match=r"masks.zarr: rows? 16") as caught:
        list(read_rows(store))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["grid_size/c/0/0", "image_size/c/0/0", "clusters/c/0", "checksum/c/0"])
def test_a_flipped_byte_beside_the_labels_is_noticed(store: Path, file: str) -> None:
    damaged = bytearray((store / file).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (store / file).write_bytes(damaged)
    with pytest.raises(DamagedArtifactError, match="rows? 0"):
        list(read_rows(store))


def test_rows_not_yet_written_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "masks.zarr"
    create_mask_store(path, rows=ROWS, grid=GRID, rows_per_shard=PER_SHARD, attributes={})
    write_shard(path, 0, mask_rows()[:PER_SHARD])
    with pytest.raises(DamagedArtifactError, match="row 16"):
        list(read_rows(path))


def test_the_checksum_covers_everything_in_a_row() -> None:
    values = np.arange(6, dtype=np.uint8)
    row = MaskRow(values.reshape(2, 3), (16, 24), 6)
    others = [
        MaskRow(values.reshape(3, 2), (16, 24), 6),
        MaskRow(values.reshape(2, 3), (24, 16), 6),
        MaskRow(values.reshape(2, 3), (16, 24), 7),
        MaskRow(values.reshape(2, 3)[::-1], (16, 24), 6),
    ]
    assert len({checksum(each) for each in [row, *others]}) == 5
    assert checksum(row) == checksum(MaskRow(np.asfortranarray(row.labels), (16, 24), 6))


def test_creating_again_keeps_the_shards_that_are_done(store: Path) -> None:
    create_mask_store(store, rows=ROWS, grid=GRID, rows_per_shard=PER_SHARD, attributes={})
    assert len(list(read_rows(store))) == ROWS


def test_what_a_killed_writer_left_is_swept(store: Path) -> None:
    leftover = store / "labels" / "c" / "0" / "0" / "0.123abc.partial"
    leftover.write_bytes(b"half")
    create_mask_store(store, rows=ROWS, grid=GRID, rows_per_shard=PER_SHARD, attributes={})
    assert not leftover.exists()
    assert len(list(read_rows(store))) == ROWS


def test_a_store_whose_making_was_cut_off_is_made_whole(tmp_path: Path) -> None:
    """A killed attempt may leave the group without its arrays: the next one goes on all the same."""
    path = tmp_path / "masks.zarr"
    zarr.create_group(store=str(path), attributes={"format": 1})
    write_store(path, mask_rows())
    assert len(list(read_rows(path))) == ROWS


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    zarr.create_group(store=str(tmp_path / "other.zarr"), attributes={"format": 99})
    with pytest.raises(DamagedArtifactError, match="format 99, expected 1"):
        open_masks(tmp_path / "other.zarr")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="nothing"):
        open_masks(tmp_path / "nothing.zarr")


@pytest.mark.parametrize("file", ["zarr.json", "labels/zarr.json", "clusters/zarr.json"])
def test_any_flipped_byte_of_a_description_is_noticed_or_changes_nothing(store: Path, file: str) -> None:
    """Zarr raises many kinds of errors over them; here they are one."""
    whole = (store / file).read_bytes()
    for at in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[at] ^= 3
        (store / file).write_bytes(flipped)
        try:
            for (row, masks), wanted in zip(read_rows(store), mask_rows(), strict=True):
                assert (masks.labels == wanted.labels).all(), f"byte {at}, row {row}"
        except DamagedArtifactError:
            pass

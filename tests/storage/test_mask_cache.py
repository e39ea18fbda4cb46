"""The packed cache: the same maps as the store, in whichever process reads them."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DamagedArtifactError, PreemptedError
from storage.mask_cache import PackedMasks, pack_masks
from storage.masks import MaskRow
from tests.storage.test_masks import ROWS, mask_rows, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "masks.zarr", mask_rows())


def assert_equals_the_store(packed: PackedMasks, rows: list[MaskRow]) -> None:
    assert len(packed) == len(rows)
    for row, wanted in enumerate(rows):
        np.testing.assert_array_equal(packed(row), wanted.labels)
        assert packed(row).dtype == np.uint8


def test_it_equals_the_store(store: Path) -> None:
    assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_it_survives_pickling_before_and_after_first_use(store: Path) -> None:
    packed = pack_masks(store, name="c")
    assert_equals_the_store(pickle.loads(pickle.dumps(packed)), mask_rows())
    unused = pickle.dumps(packed)
    packed(3)
    sent = pickle.dumps(packed)
    assert len(sent) == len(unused), "the labels themselves must not travel"
    assert_equals_the_store(pickle.loads(sent), mask_rows())


def test_another_process_reads_the_same(store: Path) -> None:
    packed = pack_masks(store, name="c")
    packed(0)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(packed, 7).result(), mask_rows()[7].labels)


def test_the_copy_that_is_there_is_taken(store: Path) -> None:
    pack_masks(store, name="c")
    store.rename(store.with_name("gone.zarr"))
    assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_other_content_is_another_copy(store: Path, tmp_path: Path) -> None:
    pack_masks(store, name="c")
    others = list(reversed(mask_rows()))
    assert_equals_the_store(pack_masks(write_store(tmp_path / "2.zarr", others), name="d"), others)
    assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_it_lies_in_the_cache_and_can_be_removed(store: Path, cache: Path) -> None:
    before = set(store.rglob("*"))
    packed = pack_masks(store, name="c")
    assert set(store.rglob("*")) == before
    size = sum(masks.labels.size for masks in mask_rows())
    assert size in [path.stat().st_size for path in (cache / "masks").iterdir()], "one byte a cell"
    packed.remove()
    assert size not in [path.stat().st_size for path in (cache / "masks").iterdir()]
    assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_packing_stops_when_it_is_told_to(store: Path, cache: Path) -> None:
    looks = 0

    def stop() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise PreemptedError("stopped")

    with pytest.raises(PreemptedError):
        pack_masks(store, name="c", check=stop)
    assert list((cache / "masks").iterdir()) == []
    assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_a_damaged_store_is_not_packed(store: Path, cache: Path) -> None:
    file = store / "labels" / "c" / "1" / "0" / "0"
    damaged = bytearray(file.read_bytes())
    damaged[3] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DamagedArtifactError, match=f"rows 16 to {ROWS - 1}"):
        pack_masks(store, name="c")
    assert list((cache / "masks").iterdir()) == [], "half a copy was left"


@pytest.mark.parametrize("part", ["c.labels", "c.shapes.npy"])
def test_a_copy_in_which_a_byte_has_changed_is_packed_again(store: Path, cache: Path, part: str) -> None:
    for at in range(-100, 100, 9):
        pack_masks(store, name="c")
        damaged = bytearray((cache / "masks" / part).read_bytes())
        damaged[at] ^= 1
        (cache / "masks" / part).write_bytes(damaged)
        assert_equals_the_store(pack_masks(store, name="c"), mask_rows())


def test_a_byte_that_changed_unseen_is_found_before_it_is_used(store: Path, cache: Path) -> None:
    """As on a failing disk: size, time and place of the file are the same."""
    wanted = mask_rows()
    ends = np.cumsum([masks.labels.size for masks in wanted])
    file = cache / "masks" / "c.labels"
    for row in (0, 5, len(wanted) - 1):
        pack_masks(store, name="c")
        before = file.stat()
        with file.open("r+b") as labels:
            labels.seek(int(ends[row]) - 1)
            changed = labels.read(1)[0] ^ 1
            labels.seek(int(ends[row]) - 1)
            labels.write(bytes([changed]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        opened = pack_masks(store, name="c")
        for other in {0, 5, len(wanted) - 1} - {row}:
            np.testing.assert_array_equal(opened(other), wanted[other].labels)
        with pytest.raises(DamagedArtifactError, match=f"row {row} are damaged; the same command"):
            opened(row)
        assert_equals_the_store(pack_masks(store, name="c"), wanted)


def test_what_a_killed_process_left_is_written_over(store: Path, cache: Path) -> None:
    (cache / "masks").mkdir()
    (cache / "masks" / ".partial-c.labels").write_bytes(b"half")
    packed = pack_masks(store, name="c")
    assert_equals_the_store(packed, mask_rows())
    packed.remove()
    assert list((cache / "masks").iterdir()) == []


def test_machines_that_share_the_cache_take_turns(store: Path, cache: Path) -> None:
    """Without turns one renames away what another is still writing."""
    for attempt in range(10):
        with ThreadPoolExecutor(4) as pool:
            copies = list(pool.map(lambda _, name=f"c{attempt}": pack_masks(store, name=name), range(4)))
        for packed in copies:
            assert_equals_the_store(packed, mask_rows())
        copies[0].remove()
    assert list((cache / "masks").iterdir()) == []

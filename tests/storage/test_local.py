"""The local store: the contract, and what only a disk has."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import RunError
from storage.local import LocalStore
from storage.store import Store, open_store
from tests.storage.store_contract import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "run")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "run")


HOLD = """
import sys, time
from pathlib import Path
from storage.local import LocalStore
with LocalStore(Path(sys.argv[1])).lease("f/lease"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_loses_its_lease(store: LocalStore) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, store.url], stdout=subprocess.PIPE, text=True)
    told: list[str] = []

    def kill(who: str) -> None:
        told.append(who)
        holder.send_signal(signal.SIGKILL)

    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with store.lease("f/lease", waiting=kill):
            assert holder.wait(10) == -signal.SIGKILL
    finally:
        holder.kill()
        holder.communicate()
    assert len(told) == 1
    assert str(holder.pid) in told[0], "who holds it is not named"


def test_a_lock_on_a_file_that_is_gone_is_no_lease(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder before may remove the file between our opening and our locking it."""
    lock, file = fcntl.flock, store.root / "f" / "lease"
    calls: list[int] = []

    def lock_too_late(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            file.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    with store.lease("f/lease"):
        assert file.exists(), "others would lock a file of their own"


def test_leftovers_of_a_killed_writer_are_not_listed_and_are_swept(store: LocalStore) -> None:
    kill_in_the_middle = (
        "import os, sys; from pathlib import Path; from storage.local import LocalStore\n"
        "os.fsync = lambda file: None if os.path.isdir(f'/proc/self/fd/{file}') else os.kill(os.getpid(), 9)\n"
        "LocalStore(Path(sys.argv[1])).write('f/a', b'half')"
    )
    subprocess.run([sys.executable, "-c", kill_in_the_middle, store.url], check=False)
    assert len(list((store.root / "f").iterdir())) == 1, "nothing was left: this test shows nothing"
    assert store.list("") == []
    assert store.size("f/a") is None
    assert list(store.folder("f").iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("f/a", b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        store.write("f/a", b"new")
    assert [path.name for path in (store.root / "f").iterdir()] == ["a"]
    assert store.read("f/a") == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_gives_one_line_that_says_so(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full answers each write as a full disk does."""
    (store.root / "f").mkdir(parents=True)
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *rest: opened(Path("/dev/full"), "wb", 0) if mode == "xb" else opened(path, mode, *rest),
    )
    with pytest.raises(RunError, match="no space left for .*f/a") as caught:
        store.write("f/a", b"data")
    assert "\n" not in str(caught.value)
    assert store.size("f/a") is None


@pytest.mark.parametrize("run", ["file", "file/run", "file/runs/run"])
def test_a_run_below_a_file_gives_one_clear_line(tmp_path: Path, run: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"file.*choose another --run") as caught:
        open_store(str(tmp_path / run)).create("run.json", b"{}")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_pointer_is_a_relative_link_that_follows_the_newest_target(store: LocalStore, tmp_path: Path) -> None:
    for key in ("k1", "k2"):
        store.write(f"c/masks/{key}/masks.zarr/zarr.json", key.encode())
        store.point("c/masks.zarr", f"c/masks/{key}/masks.zarr")
        assert (store.root / "c/masks.zarr/zarr.json").read_text() == key
    store.root.rename(tmp_path / "moved")
    assert (tmp_path / "moved/c/masks.zarr/zarr.json").read_text() == "k2"


def test_the_pointer_leaves_alone_what_a_person_put_there(store: LocalStore) -> None:
    store.write("c/masks.zarr/mine", b"mine")
    store.write("c/masks/k1/masks.zarr/zarr.json", b"")
    store.point("c/masks.zarr", "c/masks/k1/masks.zarr")
    assert store.read("c/masks.zarr/mine") == b"mine"


def test_a_pointer_is_taken_back_where_it_leads_nowhere(store: LocalStore, tmp_path: Path) -> None:
    store.write("c/masks/k1/masks.zarr/zarr.json", b"1")
    store.point("c/masks.zarr", "c/masks/k1/masks.zarr")
    store.unpoint("c/masks.zarr")
    assert store.read("c/masks.zarr/zarr.json") == b"1"
    store.delete("c/masks/k1")
    store.unpoint("c/masks.zarr")
    assert not (store.root / "c" / "masks.zarr").is_symlink()


def test_deleting_a_pointer_keeps_its_target(store: LocalStore) -> None:
    store.write("c/masks/k1/masks.zarr/zarr.json", b"1")
    store.point("c/masks.zarr", "c/masks/k1/masks.zarr")
    store.delete("c/masks.zarr")
    assert store.list("") == ["c/masks/k1/masks.zarr/zarr.json"]


def test_open_store_takes_paths_and_file_urls(tmp_path: Path) -> None:
    open_store(str(tmp_path / "run")).write("a", b"1")
    assert open_store(f"file://{tmp_path}/run").read("a") == b"1"


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(RunError, match="ftp://.*not supported"):
        open_store("ftp://host/run")


def test_what_is_swept_before_its_writer_had_a_lock_is_made_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    calls: list[int] = []

    def swept_first(descriptor: Any, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            store.sweep("f")  # looks for locks too
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", swept_first)
    store.write("f/a", b"whole")
    assert len(calls) > 2, "nothing was swept: this test shows nothing"
    assert store.read("f/a") == b"whole"
    assert [path.name for path in (store.root / "f").iterdir()] == ["a"]


def test_listing_passes_over_what_goes_meanwhile(store: LocalStore) -> None:
    store.write("stays/a", b"1")
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(20):
                (store.root / "f" / str(number) / "deep").mkdir(parents=True, exist_ok=True)
            shutil.rmtree(store.root / "f")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(1000):
            assert store.list("") == ["stays/a"]
    finally:
        ended.set()
        other.join()

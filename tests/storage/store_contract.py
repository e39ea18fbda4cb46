"""What every place that can hold a run must do; each backend's test class inherits it and gives a `store`."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.store import Store


class StoreContract:
    """Needs a fixture `store`: empty, writable."""

    def test_what_is_written_is_read_back(self, store: Store) -> None:
        data = bytes(range(256)) * 3
        store.write("a/b/c.bin", data)
        assert store.read("a/b/c.bin") == data

    def test_write_replaces_the_whole_file(self, store: Store) -> None:
        store.write("a", b"long content")
        store.write("a", b"short")
        assert store.read("a") == b"short"

    def test_reading_nothing_is_file_not_found(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.read("nowhere/a")

    def test_create_gives_way_to_what_stands_there(self, store: Store) -> None:
        assert store.create("a/manifest.json", b"first")
        assert not store.create("a/manifest.json", b"second")
        assert store.read("a/manifest.json") == b"first"

    def test_create_gives_way_to_a_written_file(self, store: Store) -> None:
        store.write("a", b"first")
        assert not store.create("a", b"second")
        assert store.read("a") == b"first"

    def test_of_many_creators_one_wins_and_its_bytes_stand_whole(self, store: Store) -> None:
        start = threading.Barrier(8)

        def create(number: int) -> bool:
            start.wait()
            return store.create("a/manifest.json", bytes([number]) * 50_000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert sum(won) == 1
        assert store.read("a/manifest.json") == bytes([won.index(True)]) * 50_000
        assert store.list("") == ["a/manifest.json"], "the losers left something behind"

    def test_create_works_again_after_delete(self, store: Store) -> None:
        store.create("a", b"first")
        store.delete("a")
        assert store.create("a", b"second")
        assert store.read("a") == b"second"

    def test_size(self, store: Store) -> None:
        store.write("a/b", b"12345")
        store.write("a/empty", b"")
        assert store.size("a/b") == 5
        assert store.size("a/empty") == 0
        assert store.size("a/c") is None
        assert store.size("a/b/c") is None

    def test_list_is_sorted_relative_to_the_root_and_deep(self, store: Store) -> None:
        for path in ("f/z", "f/a/b", "f/a.txt", "g/x", "f2"):
            store.write(path, b"")
        assert store.list("f") == ["f/a.txt", "f/a/b", "f/z"]
        assert store.list("") == ["f/a.txt", "f/a/b", "f/z", "f2", "g/x"]
        assert store.list("none") == []

    def test_delete_takes_a_file_or_a_whole_folder(self, store: Store) -> None:
        for path in ("f/a/b", "f/c", "f2/d"):
            store.write(path, b"")
        store.delete("f/c")
        assert store.list("") == ["f/a/b", "f2/d"]
        store.delete("f")
        assert store.list("") == ["f2/d"]

    @pytest.mark.parametrize("path", ["nothing", "no/thing", "file/below"])
    def test_deleting_nothing_is_no_error(self, store: Store, path: str) -> None:
        store.write("file", b"kept")
        store.delete(path)
        assert store.read("file") == b"kept"

    def test_what_is_made_in_a_folder_is_there_once_published(self, store: Store) -> None:
        folder = store.folder("f/masks.zarr")
        (folder / "c").mkdir()
        (folder / "c" / "0").write_bytes(b"chunk")
        store.publish("f/masks.zarr")
        assert store.list("f") == ["f/masks.zarr/c/0"]
        assert store.read("f/masks.zarr/c/0") == b"chunk"

    def test_folder_shows_what_stands_there(self, store: Store) -> None:
        store.write("f/a", b"before")
        assert (store.folder("f") / "a").read_bytes() == b"before"

    def test_fetch_gives_files_and_folders(self, store: Store) -> None:
        store.write("f/a/b", b"1")
        store.write("f/c", b"2")
        assert store.fetch("f/c").read_bytes() == b"2"
        folder = store.fetch("f")
        assert (folder / "a" / "b").read_bytes() == b"1"

    def test_fetching_nothing_is_file_not_found(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.fetch("f")

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "a/../x", "/etc/x"])
    def test_paths_that_lead_out_are_refused(self, store: Store, path: str) -> None:
        for call in (store.read, store.size, store.list, store.delete, store.folder, store.fetch):
            with pytest.raises(ValueError, match="leads out"):
                call(path)
        for put in (store.write, store.create):
            with pytest.raises(ValueError, match="leads out"):
                put(path, b"")
        assert store.list("") == []

    def test_a_lease_keeps_others_out_and_is_given_on(self, store: Store) -> None:
        """Three threads under one lease: never two inside, and all get in."""
        inside, most, entered = 0, 0, 0
        told: list[str] = []

        def work(_: int) -> None:
            nonlocal inside, most, entered
            with store.lease("f/lease", waiting=told.append):
                inside += 1
                most = max(most, inside)
                time.sleep(0.02)
                entered += 1
                inside -= 1

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(3)))
        assert (most, entered) == (1, 3)
        assert told, "nobody was told to wait"

    def test_waiting_is_told_once_who_holds_the_lease(self, store: Store) -> None:
        told: list[str] = []
        asked = threading.Event()

        def tell(holder: str) -> None:
            told.append(holder)
            asked.set()

        def wait() -> None:
            with store.lease("f/lease", waiting=tell):
                pass

        other = threading.Thread(target=wait)
        with store.lease("f/lease"):
            other.start()
            assert asked.wait(10)
            time.sleep(0.7)  # longer than one look at the lease
            assert len(told) == 1
            assert other.is_alive()
        other.join(10)
        assert not other.is_alive()
        assert told[0].strip()

    def test_who_holds_a_lease_can_be_seen_and_stays_its_holder(self, store: Store) -> None:
        assert store.holder("f/lease") is None
        with store.lease("f/lease"):
            for _ in range(2):
                assert str(os.getpid()) in (store.holder("f/lease") or "")
        assert store.holder("f/lease") is None

    def test_a_lease_is_given_back_when_the_work_fails(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.lease("f/lease"):
            raise ZeroDivisionError
        with store.lease("f/lease", waiting=lambda holder: pytest.fail(f"still held by {holder}")):
            pass

    def test_leases_of_other_paths_are_independent(self, store: Store) -> None:
        with store.lease("f/lease"), store.lease("g/lease", waiting=lambda holder: pytest.fail(holder)):
            pass

    def test_a_pointer_never_disturbs_what_is_stored(self, store: Store) -> None:
        store.write("c/masks/k1/masks.zarr/z", b"1")
        store.write("c/masks/k2/masks.zarr/z", b"2")
        store.point("c/masks.zarr", "c/masks/k1/masks.zarr")
        store.point("c/masks.zarr", "c/masks/k2/masks.zarr")
        assert store.list("") == ["c/masks/k1/masks.zarr/z", "c/masks/k2/masks.zarr/z"]
        assert store.read("c/masks/k1/masks.zarr/z") == b"1"

    def test_taking_a_pointer_back_never_disturbs_what_is_stored(self, store: Store) -> None:
        store.write("c/masks/k1/masks.zarr/zarr.json", b"1")
        store.point("c/masks.zarr", "c/masks/k1/masks.zarr")
        store.unpoint("c/masks.zarr")
        store.unpoint("c/nothing")
        assert store.list("") == ["c/masks/k1/masks.zarr/zarr.json"]

    def test_free_space_is_a_number_or_not_known(self, store: Store) -> None:
        free = store.free_bytes()
        assert free is None or free > 0

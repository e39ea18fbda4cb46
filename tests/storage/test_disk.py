"""What a power cut may not take, and file systems that lack what keeps a run whole."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from storage.local import LocalStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files and folders that were made durable, in order."""
    sync, seen = os.fsync, list[Path]()

    def watched(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return seen


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


@needs_proc
def test_the_entries_of_new_folders_are_made_durable(tmp_path: Path, synced: list[Path]) -> None:
    LocalStore(tmp_path / "runs" / "one").write("a/b/c", b"1")
    folders = [tmp_path, tmp_path / "runs", tmp_path / "runs/one", tmp_path / "runs/one/a", tmp_path / "runs/one/a/b"]
    assert set(folders) <= set(synced)
    synced.clear()
    LocalStore(tmp_path / "runs" / "one").write("a/b/d", b"1")
    assert [path for path in synced if path.is_dir()] == [tmp_path / "runs/one/a/b"], "the others were there"


@needs_proc
def test_so_are_those_that_another_library_made_within_a_run(tmp_path: Path, synced: list[Path]) -> None:
    """As zarr makes the folder of a shard, and on the first shard the folder around it."""
    store = LocalStore(tmp_path / "run")
    shard = store.folder("masks.zarr") / "labels" / "c" / "7"
    (shard / "0").mkdir(parents=True)
    (shard / "0" / "0").write_bytes(b"labels")
    synced.clear()
    store.publish("masks.zarr/labels/c/7")
    assert {shard / "0" / "0", shard / "0", shard, shard.parent, shard.parent.parent} <= set(synced)


@needs_proc
def test_a_log_is_durable_once_it_is_flushed(tmp_path: Path, synced: list[Path]) -> None:
    """A state that is saved after it has counted its lines."""
    lines = LocalStore(tmp_path).appender("logs/train/log.jsonl")
    lines.write("1")
    synced.clear()
    lines.flush()
    assert synced == [tmp_path / "logs/train/log.jsonl", tmp_path / "logs/train"]
    lines.write("2")
    lines.flush()
    assert synced[2:] == [tmp_path / "logs/train/log.jsonl"]
    lines.close()


CALLS = {"x86_64": {"flock": 73, "link": 86, "linkat": 265}, "aarch64": {"flock": 32, "linkat": 37}}
"""Linux' numbers of the system calls that some file systems do not know."""
LACKING = """
import ctypes, struct, sys
from pathlib import Path
from storage.local import LocalStore

error, numbers = int(sys.argv[2]), [int(number) for number in sys.argv[3].split(",")]
store = LocalStore(Path(sys.argv[1]))
store.write("f/there", b"1")
# The kernel itself answers these calls with that error from here on: a filter of two instructions for each.
load, equal, give = 0x20, 0x15, 0x06
program = struct.pack("HBBI", load, 0, 0, 0)
for number in numbers:
    program += struct.pack("HBBI", equal, 0, 1, number) + struct.pack("HBBI", give, 0, 0, 0x00050000 | error)
program += struct.pack("HBBI", give, 0, 0, 0x7FFF0000)
libc = ctypes.CDLL(None, use_errno=True)
held = ctypes.create_string_buffer(program)
filter = struct.pack("HP", len(program) // 8, ctypes.addressof(held))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
try:
    {call}
except Exception as error:
    print(type(error).__mro__[1].__name__, error)
print(*(path.name for path in (store.root / "f").iterdir()))
"""


@pytest.mark.skipif(platform.machine() not in CALLS or sys.platform != "linux", reason="needs Linux' seccomp")
@pytest.mark.parametrize(
    ("names", "number", "call", "what"),
    [
        (("link", "linkat"), errno.EPERM, "store.create('f/a', b'1')", "has no hard links"),
        (("link", "linkat"), errno.EOPNOTSUPP, "store.create('f/a', b'1')", "has no hard links"),
        (("flock",), errno.ENOLCK, "store.write('f/a', b'1')", "files cannot be locked there (No locks available)"),
        (("flock",), errno.ENOSYS, "store.lease('f/lease').__enter__()", "files cannot be locked there"),
        (("flock",), errno.EOPNOTSUPP, "store.holder('f/there')", "files cannot be locked there"),
    ],
)
def test_a_file_system_that_lacks_links_or_locks_is_one_line(
    tmp_path: Path, names: tuple[str, ...], number: int, call: str, what: str
) -> None:
    """The kernel answers as it does for such a file system: `mount -t vfat` needs a privilege that tests have not."""
    calls = CALLS[platform.machine()]
    numbers = ",".join(str(calls[name]) for name in names if name in calls)
    program = LACKING.replace("{call}", call)
    command = [sys.executable, "-c", program, str(tmp_path / "run"), str(number), numbers]
    said, left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said.startswith(f"RunError {tmp_path}/run/f/") and what in said, said
    assert said.endswith("keep the run on a local disk, on NFS from version 4, or on s3://")
    assert set(left.split()) <= {"there", "lease"}, "left something behind"

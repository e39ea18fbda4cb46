"""Temporary folders of stages: gone with their process, swept when it was killed, never taken from the living."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOLD = """
import tempfile, sys
from stages.scratch import own_temporary_folder
print(own_temporary_folder(), flush=True)
open(tempfile.mkstemp()[1], "w").write("left")
sys.stdin.readline()
"""


def start(temporary: Path) -> "tuple[subprocess.Popen[str], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "PATH": "/usr/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_next_sweeps_what_a_killed_process_left(tmp_path: Path) -> None:
    (killed, left), (living, kept) = start(tmp_path), start(tmp_path)
    assert left.parent == kept.parent == tmp_path
    killed.kill()
    killed.communicate()
    assert left.is_dir(), "nothing was left: this test shows nothing"
    third, own = start(tmp_path)
    assert not left.exists()
    assert kept.is_dir(), "swept from under a living process"
    for process in (living, third):
        process.communicate("\n", timeout=30)
    assert not kept.exists() and not own.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_loaders_ends_without_a_word(tmp_path: Path) -> None:
    """multiprocessing, here before there is a folder, keeps one of its own in it and looks for that at the end."""
    code = """
import multiprocessing.util
from stages.scratch import own_temporary_folder
print(own_temporary_folder(), multiprocessing.util.get_temp_dir())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    own, theirs = ended.stdout.split()
    assert theirs.startswith(own)
    assert ended.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_one_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from schemas.errors import RunError
    from stages import scratch

    monkeypatch.setattr(scratch, "_held", [])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match="no temporary folder can be made: No such file.*TMPDIR"):
        scratch.own_temporary_folder()


def test_a_place_that_knows_no_locks_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over NFS without a lock daemon: once said, not tried with one new folder after the other."""
    from schemas.errors import RunError
    from stages import scratch

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(scratch, "_held", [])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RunError, match=f"^temporary folder {tmp_path}: .*No locks available.*TMPDIR$"):
        scratch.own_temporary_folder()
    assert list(tmp_path.iterdir()) == []

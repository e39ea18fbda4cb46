"""Where a fork may stand, and what it does beside a run that is at work on it."""

import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path

import pytest

from flows.fork import _check_place, fork
from schemas.errors import RunError
from storage import layout
from storage.artifacts import standing
from storage.run import Run, open_run
from storage.s3 import S3Store
from tests.storage.samples import commit, make_record, make_run, snapshot


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("mine", "is the run itself"),
        ("other/../mine", "is the run itself"),
        ("link", "is the run itself"),
        ("mine/sub", "lies inside of the run"),
        ("mine/cycle-000/train", "lies inside of the run"),
        ("link/sub", "lies inside of the run"),
        (".", "has the run inside of it"),
        ("..", "has the run inside of it"),
    ],
)
def test_a_fork_stands_beside_its_run(tmp_path: Path, place: str, what: str) -> None:
    runs = tmp_path / "all" / "runs"
    commit(make_run(runs / "mine"), "index-images")
    (runs / "other").mkdir()
    (runs / "link").symlink_to("mine")
    before = snapshot(tmp_path)
    with pytest.raises(RunError, match=rf"^fork {runs}/mine: {runs / place} {what}; name .*place") as caught:
        fork(str(runs / "mine"), str(runs / place), [])
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before


def test_a_name_that_begins_alike_is_another_place(tmp_path: Path) -> None:
    commit(make_run(tmp_path / "mine"), "index-images")
    assert fork(str(tmp_path / "mine"), str(tmp_path / "mine-2"), [])[0].stays


def test_places_on_s3_are_told_apart_too() -> None:
    """Nothing there is asked for it."""
    source = Run(S3Store("s3://bucket/runs/mine"), make_record())
    for url, what in (("mine/", "itself"), ("mine/sub", "inside of the run"), ("", "has the run inside")):
        with pytest.raises(RunError, match=what):
            _check_place(source, S3Store(f"s3://bucket/runs/{url}"), url)
    _check_place(source, S3Store("s3://bucket/runs/mine-2"), "mine-2")
    _check_place(source, S3Store("s3://other/runs/mine"), "other")


def test_a_fork_leaves_to_a_run_what_it_is_at_work_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It waits for the lease of that artifact, and does not copy over what was committed meanwhile."""
    source = make_run(tmp_path / "mine")
    commit(source, "index-images")
    fork(str(tmp_path / "mine"), str(tmp_path / "new"), [])
    commit(source, "warm-up", data=b"of the source")
    new = open_run(str(tmp_path / "new"))
    found = standing(new, "warm-up")
    with ThreadPoolExecutor(1) as pool:
        with new.store.lease(f"{found.folder}/{layout.LEASE}"):
            forked = pool.submit(fork, str(tmp_path / "mine"), str(tmp_path / "new"), [])
            with pytest.raises(NotYetError):
                forked.result(timeout=1)
            assert new.store.list(str(found.folder)) == [f"{found.folder}/{layout.LEASE}"], "copied all the same"
            own = commit(new, "warm-up", data=b"its own")
        assert [verdict.stays for verdict in forked.result(timeout=10)[:2]] == [True, True]
    assert capsys.readouterr().err.count(f"warm-up: waiting for process {os.getpid()}") == 1
    assert new.store.read(f"{found.folder}/file.bin") == b"its own"
    assert standing(new, "warm-up").manifest == own
    assert new.store.size(f"{found.folder}/{layout.LEASE}") is None, "given back"

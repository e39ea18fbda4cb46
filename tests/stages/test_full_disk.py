"""A disk that fills up, a real one: one line that names the place, exit code 2, nothing lost, on it goes when freed."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import CyborgsError
from schemas.plan import plan
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage.artifacts import standing
from storage.run import create_run, open_run, replace_record
from tests.pipeline import assert_same_results, prepare
from tests.stages.conftest import ONE_CYCLE

ROOM_BYTES = 6000
"""Left on the full disk: enough for a lease and a heartbeat, not for an artifact."""


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small disk of its own at a folder; skips the test where that is not permitted."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a disk to fill cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path, *, leave: int) -> None:
    """Fill the disk that a file is on, to so many bytes."""
    state = os.statvfs(file.parent)
    size = state.f_bavail * state.f_frsize - leave
    with file.open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, size)


def test_each_stage_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path, undisturbed: Path, photographs: Path, tiny_config: Path
) -> None:
    with mounted(tmp_path / "disk", 700) as disk:
        url, filler = disk / "run", disk / "filler"
        run = prepare(url, tiny_config, photographs, *ONE_CYCLE, "placement.checkpoint_every_minutes=1.0e-6")
        for step in plan(run.config):
            request = StageRequest(run=str(url), stage=step.stage, cycle=step.cycle)
            fill(filler, leave=0 if step.stage == "index-images" else ROOM_BYTES)
            with pytest.raises(CyborgsError, match=rf"no space left for {url}.*: free some.*same command") as caught:
                run_stage(request)
            assert "\n" not in str(caught.value)
            assert caught.value.exit_code == 2
            assert standing(run, step.stage, step.cycle).manifest is None
            filler.unlink()
            assert run_stage(request).computed, step.name
        assert_same_results(undisturbed, url)
        assert [path for path in url.rglob("*") if ".partial" in path.name] == []


def test_a_full_disk_under_run_json_keeps_the_old_one(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    with mounted(tmp_path / "disk", 4) as disk:
        before = prepare(tmp_path / "run", tiny_config, photographs).record
        run = create_run(str(disk / "run"), before)
        fill(disk / "filler", leave=0)
        with pytest.raises(CyborgsError, match=r"no space left for .*run-00001\.json"):  # its copy comes first
            replace_record(run, before.model_copy(update={"name": "other"}), note={})
        assert open_run(run.store.url).record == before
        (disk / "filler").unlink()
        replace_record(run, before.model_copy(update={"name": "other"}), note={})
        assert open_run(run.store.url).record.name == "other"


def test_a_full_cache_is_named(
    tmp_path: Path, undisturbed: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "cache", 1) as cache:
        fill(cache / "filler", leave=0)
        monkeypatch.setenv("CYBORGS_CACHE", str(cache))
        request = StageRequest(run=str(undisturbed), stage="train", cycle=0, force=True)
        with pytest.raises(CyborgsError, match=rf"no space left in the cache {cache}.*CYBORGS_CACHE") as caught:
            run_stage(request)
        assert caught.value.exit_code == 2
        (cache / "filler").unlink()
        assert run_stage(request.model_copy(update={"force": False})).computed
        assert list(cache.rglob("*.*")) == []


def test_a_log_that_cannot_be_written_is_named(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only file that is appended to: its write fails without a name."""
    from stages import metrics_log

    def full(self: object, step: int, values: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(metrics_log.MetricsLog, "write", full)
    with pytest.raises(CyborgsError, match=rf"train cycle 0: no space left for {undisturbed}: free some"):
        run_stage(StageRequest(run=str(undisturbed), stage="train", cycle=0, force=True))
    monkeypatch.undo()
    assert run_stage(StageRequest(run=str(undisturbed), stage="train", cycle=0)).computed

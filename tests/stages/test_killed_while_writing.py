"""SIGKILL at the k-th time that a stage touches a file of its run: manifests, shards, their renames, run after run."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.stages import StageRequest
from stages.execute import run_stage
from storage.artifacts import standing, tidy
from storage.run import open_run
from storage.verification import verify_run
from tests.pipeline import assert_same_masks, assert_same_tensors, prepare
from tests.stages.conftest import ONE_CYCLE

ROOT = Path(__file__).parents[2]
KILLER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import stages.bootstrap_masks, stages.warm_up, stages.index_images, stages.evaluate
from schemas.stages import StageRequest
from stages.execute import run_stage

url, stage, cycle, first, last = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TOUCHES = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate")


def attempt(number):
    # The stage in a child that kills itself at its touch of that number; whether it was killed.
    child = os.fork()
    if not child:
        left = number

        def touch(path):
            nonlocal left
            if str(path).startswith(url) and "/logs/" not in str(path):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def watch(event, given):
            if event in TOUCHES and (event != "open" or (given[2] or 0) & WRITING):
                touch(given[0])

        sync = os.fsync

        def synced(descriptor):
            touch(os.readlink(f"/proc/self/fd/{descriptor}"))
            sync(descriptor)

        os.fsync = synced
        sys.addaudithook(watch)
        run_stage(StageRequest(run=url, stage=stage, cycle=int(cycle) if cycle else None))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


for number in range(first, last):
    if not attempt(number):
        break
    print(number, flush=True)
"""


def kills(url: Path, stage: str, cycle: int | None, numbers: range) -> int:
    """Kill attempts at a stage at these touches, one after the other; how many there were before it was done."""
    word = "" if cycle is None else str(cycle)
    command = [sys.executable, "-c", KILLER, str(ROOT), str(url), stage, word, str(numbers.start), str(numbers.stop)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    return len(ran.stdout.split())


@pytest.mark.parametrize(
    ("most", "expected"),
    [(4, 12), pytest.param(1000, 50, marks=(pytest.mark.slow, pytest.mark.many))],
    ids=["a few", "as many as there are touches"],
)
def test_killed_at_touch_after_touch_it_ends_the_same(
    tmp_path: Path, undisturbed: Path, photographs: Path, tiny_config: Path, most: int, expected: int
) -> None:
    url, total = tmp_path / "run", 0
    run = prepare(url, tiny_config, photographs, *ONE_CYCLE)
    # Where few are killed: around the manifest of the index, and from the first shard to the second.
    for stage, cycle, first in (("index-images", None, 8), ("warm-up", None, 16), ("bootstrap-masks", 0, 40)):
        killed = kills(url, stage, cycle, range(first, first + most) if most < 1000 else range(2, most))
        if most < 1000:
            assert killed == most, f"{stage} has fewer touches than that"
        total += killed
        for finding in verify_run(run):
            assert finding.damage == (), finding
        run_stage(StageRequest(run=str(url), stage=stage, cycle=cycle))  # type: ignore[arg-type]
        found, whole = (standing(open_run(str(each)), stage, cycle) for each in (url, undisturbed))  # type: ignore[arg-type]
        assert found.manifest is not None and whole.manifest is not None
        assert found.manifest.content == whole.manifest.content
        assert_same_tensors(undisturbed / str(whole.folder), url / str(found.folder))
        if stage == "bootstrap-masks":
            assert_same_masks(undisturbed / str(whole.folder) / "masks.zarr", url / str(found.folder) / "masks.zarr")
    tidy(run)
    assert [path for path in url.rglob("*") if "partial" in path.name or path.name == "lease"] == []
    assert total >= expected

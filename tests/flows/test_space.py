"""A run that does not fit is refused before it starts, on a real file system that is too small."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.prepare import prepare_run
from flows.space import check_space_left
from schemas.errors import RunError
from schemas.estimates import readable_size, storage_need
from schemas.loading import load_config
from schemas.plan import plan
from storage import layout
from storage.artifacts import Standings, standing
from storage.local import LocalStore
from storage.retention import restore_needed
from storage.run import open_run
from tests.storage.samples import commit, make_photographs, make_run, small_config


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m", "none", place]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_new_run_that_does_not_fit_leaves_nothing_behind(small_disk: Path, tmp_path: Path) -> None:
    photographs = make_photographs(tmp_path / "photographs", 8)
    config = load_config("small", ["optimization.batch_size=4"])
    need = storage_need(config, images=8, steps=plan(config))
    assert need > 100e6
    with pytest.raises(
        RunError, match=r"disk/run: .*needs about 1\.43 GB there, and 10\d MB are free.*keep_checkpoints"
    ):
        prepare_run(str(small_disk / "run"), config, name="small", data=(str(photographs),))
    assert list(small_disk.iterdir()) == []


def test_only_what_is_left_has_to_fit(small_disk: Path, tmp_path: Path) -> None:
    """As stages are done their share is no longer asked for, and what a stage has half written is not either."""
    photographs = make_photographs(tmp_path / "photographs", 8)
    config = small_config(network={"architecture": "resnet18", "projector_hidden": 8}, optimization={"batch_size": 4})
    url = str(small_disk / "run")
    assert storage_need(config, images=8, steps=plan(config)) > 100e6
    with pytest.raises(RunError, match="are free"):
        prepare_run(url, config, name="small", data=(str(photographs),))
    run = prepare_run(str(tmp_path / "run"), config, name="small", data=(str(photographs),))
    for step in plan(run.config)[:-1]:
        commit(run, step.stage, step.cycle, content=step.name)
    shutil.copytree(tmp_path / "run", url)
    moved = open_run(url)
    check_space_left(moved)

    last = Standings(moved).all()[-2]  # train cycle 1, half way, with most of the disk in its partial state
    moved.store.delete(f"{last.folder}/{layout.MANIFEST}")
    need = storage_need(moved.config, images=8, steps=[last.step, Standings(moved).all()[-1].step])
    with pytest.raises(RunError, match=f"about {readable_size(need)} there"):
        check_space_left(moved)
    moved.store.write(f"{last.folder}/{layout.PARTIAL}/state.safetensors", bytes(40_000_000))
    with pytest.raises(RunError, match=f"about {readable_size(need - 40_000_000)} there"):
        check_space_left(moved)


def test_checkpoints_that_will_be_taken_back_have_to_fit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement of cycle 0 needs what was trained then, and that what it was trained from; both are thinned."""
    config = small_config(placement={"keep_checkpoints": "last:1"}, schedule={"checkpoint_epochs": [1]})
    run = make_run(tmp_path / "run", config)
    for step in plan(config):
        commit(run, step.stage, step.cycle, content=step.name, name=layout.MODEL)
    monkeypatch.setattr(LocalStore, "free_bytes", lambda _: 0)
    thinned = [found for found in Standings(run).all() if found.step.name in ("warm-up", "train cycle 0")]
    for found in thinned:
        run.store.write(f"{found.folder}/{layout.THINNED}", json.dumps([layout.MODEL]).encode())
        run.store.delete(f"{found.folder}/{layout.MODEL}")
    check_space_left(run)  # nothing is to be done: nobody reads them

    wanted = standing(run, "evaluate", 0)
    run.store.delete(f"{wanted.folder}/{layout.MANIFEST}")
    need = storage_need(config, images=6, steps=[*(found.step for found in thinned), wanted.step])
    assert need > storage_need(config, images=6, steps=[thinned[1].step, wanted.step]), "this test shows nothing"
    with pytest.raises(RunError, match=f"about {readable_size(need)} there"):
        check_space_left(run)
    assert restore_needed(run) == [found.step.name for found in thinned], "what was counted is what is taken back"

"""Running a tiny pipeline from tests, and comparing what two runs left behind."""

from pathlib import Path

import numpy as np
import zarr

from flows.launching import run_step
from flows.prepare import prepare_run
from flows.watch import Watch
from schemas.loading import load_config
from schemas.plan import plan
from schemas.stages import StageRequest
from storage import layout
from storage.artifacts import Standings
from storage.checkpoints import decode_tensors
from storage.run import Run, open_run


def prepare(url: Path | str, config: Path, photographs: Path | str, *settings: str) -> Run:
    """A run ready to be worked on, stages in this process."""
    loaded = load_config(str(config), ["placement.launcher=inline", *settings])
    return prepare_run(str(url), loaded, name="tiny", data=(str(photographs),))


def run_all(url: Path | str) -> list[str]:
    """Run every step that is not done; the names of those that were computed."""
    run = open_run(str(url))
    results = [
        run_step(StageRequest(run=str(url), stage=step.stage, cycle=step.cycle), Watch(run, step))
        for step in plan(run.config)
    ]
    return [result.name for result in results if result.computed]


def assert_same_results(first: Path, second: Path) -> None:
    """Every tensor of every checkpoint, every label map and every metric are equal."""
    one, two = Standings(open_run(str(first))).all(), Standings(open_run(str(second))).all()
    assert [found.step.name for found in one] == [found.step.name for found in two]
    for left, right in zip(one, two, strict=True):
        assert left.manifest is not None, left.step.name
        assert right.manifest is not None, right.step.name
        folders = first / str(left.folder), second / str(right.folder)
        assert_same_tensors(*folders)
        if (folders[0] / layout.MASKS).exists():
            assert_same_masks(*(folder / layout.MASKS for folder in folders))
        assert left.manifest.content == right.manifest.content, left.step.name


def assert_same_tensors(first: Path, second: Path) -> None:
    """All tensors in the checkpoints of two artifacts are equal to the bit."""
    for name in (layout.MODEL, layout.TRAINING_STATE):
        if (first / name).exists():
            one, two = (decode_tensors((folder / name).read_bytes())[0] for folder in (first, second))
            assert one.keys() == two.keys()
            different = [key for key in one if not one[key].equal(two[key])]
            assert not different, f"{first / name}: {len(different)} tensors differ, such as {different[0]}"


def assert_same_masks(first: Path, second: Path) -> None:
    """Every array of two mask stores is equal."""
    one, two = zarr.open_group(str(first), mode="r"), zarr.open_group(str(second), mode="r")
    for name in ("labels", "grid_size", "image_size", "clusters", "checksum"):
        np.testing.assert_array_equal(one[name][:], two[name][:], err_msg=f"{first} {name}")

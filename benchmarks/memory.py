"""`memory`: by how much the peak of a training process grows with the number of photographs."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.bootstrap import made
from benchmarks.figure import Bench, Figure
from benchmarks.runs import bootstrap, make_run, standing
from benchmarks.timing import Summary
from schemas.errors import EXIT_PREEMPTED
from schemas.stages import StageRequest
from storage import layout
from storage.run import open_run

TARGET = 10.0
_SIDE = 32
_PER = 10_000
_LOOK_SECONDS = 0.2
_MOST_SECONDS = 300


def measure(bench: Bench) -> list[Figure]:
    """The stage `train` on few and on many photographs of 32 px: it reads the index, packs the masks, takes steps
    until it has saved, and is asked to stop. The labels stay in a mapped file, of which a few steps touch next to
    nothing.
    """
    few, many = bench.pick(5_000, 500), bench.pick(25_000, 2_000)
    urls = [_run(bench, count) for count in (few, many)]
    peaks: list[list[float]] = [[], []]
    for _ in range(bench.pick(3, 1)):
        for url, found in zip(urls, peaks, strict=True):
            found.append(peak_of_training(url, cache=bench.work / "memory-cache"))
    growth = Summary.of(
        [(more - less) / 1e6 / (many - few) * _PER for less, more in zip(peaks[0], peaks[1], strict=True)]
    )
    return [
        Figure(
            "memory",
            growth.median,
            TARGET,
            "lower",
            "MB per 10,000 photographs",
            {"photographs": few, "and": many, "labels of the latter": made(urls[1])["points"]},
            (growth.low, growth.high),
            len(peaks[0]),
            {
                f"peak MB with {few:,}": Summary.of(peaks[0]).median / 1e6,
                f"peak MB with {many:,}": Summary.of(peaks[1]).median / 1e6,
            },
            f"generated JPEGs of {_SIDE} px",
        )
    ]


def _run(bench: Bench, count: int) -> str:
    folder = bench.work / f"tiny-{count}"
    if not folder.exists():
        _tiny(folder, count)
    url = make_run(
        bench.work / f"memory-{count}",
        "small",
        ["optimization.batch_size=4", "augmentation.crop_size=32", "network.region_grid=4",
         "masks.iterations=1", "masks.clusters=[2,8]", "masks.images_per_group=64", "masks.refresh_batch_norm=0",
         "masks.rows_per_shard=1024", f"numerics.threads={bench.threads}",
         "placement.checkpoint_every_minutes=0.05", "placement.loader_workers=0"],
        folder,
    )  # fmt: skip
    bootstrap(url, again=False)
    return url


def _tiny(folder: Path, count: int) -> None:
    """One picture, under as many names."""
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8))
    folder.mkdir()
    first = folder / "photograph-000000000.jpg"
    picture.save(first, quality=90)
    for number in range(1, count):
        shutil.copyfile(first, folder / f"photograph-{number:09d}.jpg")


def peak_of_training(url: str, *, cache: Path) -> int:
    """Largest resident size in bytes of the stage `train` of cycle 0, from its start until its first save.

    Raises:
        RuntimeError: it did not get that far.
    """
    run, folder = open_run(url), standing(url, "train", 0).folder
    partial = f"{folder}/{layout.PARTIAL}"
    run.store.delete(partial)
    shutil.rmtree(cache, ignore_errors=True)
    request = StageRequest(run=url, stage="train", cycle=0)
    child = subprocess.Popen(request.command(), env=os.environ | {"CYBORGS_CACHE": str(cache)})
    deadline = time.monotonic() + _MOST_SECONDS
    while not any(True for _ in run.store.list(partial)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        if child.poll() is not None:
            raise RuntimeError(f"train of {url} ended with {child.returncode} before it saved")
    child.send_signal(signal.SIGTERM)
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    if code != EXIT_PREEMPTED:
        raise RuntimeError(f"train of {url} ended with {code}, not asked to stop")
    return usage.ru_maxrss * 1024

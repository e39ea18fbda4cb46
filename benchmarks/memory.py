"""`memory`: by how much the peak of a process that trains grows with the number of photographs.

    python -m benchmarks.memory RUN STORE

is such a process, and prints its peak in bytes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.figure import Bench, Figure
from benchmarks.loader import Ours
from benchmarks.runs import generated_store, make_run
from benchmarks.timing import Summary
from storage.mask_cache import pack_masks

TARGET = 10.0
_SIDE = 32
_PER = 10_000
_ROOT = Path(__file__).resolve().parents[1]


def measure(bench: Bench) -> list[Figure]:
    """Few and many photographs of 32 px: a process reads the index, packs the masks and takes a batch, as `train` does
    before its first step. The labels stay in a mapped file, of which a batch touches next to nothing. Without the
    networks, whose size would hide what is held only while the index is read.
    """
    few, many = bench.pick(5_000, 200), bench.pick(15_000, 1_000)
    made = [_prepare(bench, count) for count in (few, many)]
    peaks: list[list[float]] = [[], []]
    for _ in range(bench.pick(3, 1)):
        for (url, store), found in zip(made, peaks, strict=True):
            found.append(_peak_of_process(url, store, cache=bench.work / "memory-cache"))
    growth = Summary.of([_PER * (more - less) / 1e6 / (many - few) for less, more in zip(*peaks, strict=True)])
    return [
        Figure(
            "memory",
            growth.median,
            TARGET,
            "lower",
            "MB per 10,000 photographs",
            {"photographs": few, "and": many},
            (growth.low, growth.high),
            len(peaks[0]),
            {
                f"peak MB with {few:,}": Summary.of(peaks[0]).median / 1e6,
                f"peak MB with {many:,}": Summary.of(peaks[1]).median / 1e6,
            },
            f"generated JPEGs of {_SIDE} px, generated labels",
        )
    ]


def _prepare(bench: Bench, count: int) -> tuple[str, Path]:
    folder = bench.work / f"tiny-{count}"
    if not folder.exists():
        _tiny(folder, count)
    settings = ["optimization.batch_size=16", "numerics.threads=1"]
    url = make_run(bench.work / f"memory-{count}", "small", settings, folder, weights=False)
    return url, generated_store(bench.work, [(_SIDE, _SIDE)] * count)


def _tiny(folder: Path, count: int) -> None:
    """One picture, under as many names."""
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8))
    folder.mkdir()
    first = folder / "photograph-000000000.jpg"
    picture.save(first, quality=90)
    for number in range(1, count):
        shutil.copyfile(first, folder / f"photograph-{number:09d}.jpg")


def _peak_of_process(url: str, store: Path, *, cache: Path) -> int:
    """Of a process that finds no packed masks."""
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.memory", url, str(store)]
    environment = os.environ | {"CYBORGS_CACHE": str(cache)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def main(url: str, store: Path) -> int:
    """Largest resident size in bytes, from after all imports until the first batch is there."""
    forget_peak()
    ours = Ours(url, pack_masks(store, name="benchmark-memory"))
    next(iter(ours.batches()))
    return peak()


def forget_peak() -> None:
    """Let the peak of this process be what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Largest resident size of this process in bytes, since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2])))

"""`flow`: what `cyborgs run` takes beside its stages."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figure import Bench, Figure
from benchmarks.photographs import take_photographs
from benchmarks.timing import Summary
from storage.artifacts import Standings
from storage.run import open_run

TARGET = 3.0


def measure(bench: Bench) -> list[Figure]:
    """Wall time of the command less what the stages' manifests say they took, a stage; launcher `process`.

    A run has 2 + 3 c stages: eleven are next to ten. Starting Python, Prefect's embedded server and eleven processes
    is all in the rest; what a stage imports is its own.
    """
    photographs = take_photographs(bench.work, 32)
    cycles = bench.pick(3, 1)
    beside, walls, inside = [], [], []
    for number in range(bench.pick(2, 1)):
        url = bench.work / f"flow-{number}"
        wall = _run(url, photographs.folder, cycles=cycles, home=bench.work / f"prefect-{number}")
        manifests = [found.manifest for found in Standings(open_run(str(url))).all()]
        assert all(manifest is not None for manifest in manifests)
        seconds = sum(manifest.provenance.seconds for manifest in manifests if manifest is not None)
        walls.append(wall)
        inside.append(seconds)
        beside.append((wall - seconds) / len(manifests))
    rest = Summary.of(beside)
    return [
        Figure(
            "flow",
            rest.median,
            TARGET,
            "lower",
            "s/stage",
            {"stages": len(manifests), "photographs": len(photographs.files())},
            (rest.low, rest.high),
            len(beside),
            {"run s": Summary.of(walls).median, "stages s": Summary.of(inside).median},
            f"configs/demo.yaml, {photographs.kind}; a new Prefect database each time",
        )
    ]


def _run(url: Path, photographs: Path, *, cycles: int, home: Path) -> float:
    """A whole run of the demo config with one epoch a cycle; its seconds."""
    shutil.rmtree(url, ignore_errors=True)
    settings = ["placement.launcher=process", f"schedule.epochs={cycles}", "schedule.warmup_epochs=0",
                "schedule.bootstrap_every_epochs=1", "optimization.lr_warmup_epochs=0"]  # fmt: skip
    command = [str(Path(sys.executable).with_name("cyborgs")), "run", "demo", "--run", str(url),
               "--data", str(photographs), "--set", *settings]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, env=os.environ | {"PREFECT_HOME": str(home)}, check=True)
    return time.perf_counter() - started

"""`scaling`: two processes of one thread over one, for the stages `train` and `bootstrap-masks`, under torchrun."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.bootstrap import config_name, made
from benchmarks.figure import Bench, Figure, cores
from benchmarks.photographs import Photographs, take_photographs
from benchmarks.runs import bootstrap, make_run, standing
from benchmarks.timing import Summary, quotients
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.metrics_log import read_metrics
from storage.run import open_run

TARGET = 1.8
PROCESSES = (1, 2)
SHARE = 32
"""Photographs a step and process: twice as many a step with two processes."""
_ROOT = Path(__file__).resolve().parents[1]


def measure(bench: Bench) -> list[Figure]:
    """Processes find each other anew in every round.

    Raises:
        ValueError: there is no core for each process.
    """
    if cores() < max(PROCESSES):
        raise ValueError(f"{max(PROCESSES)} processes need {max(PROCESSES)} cores, this machine gives {cores()}")
    photographs = take_photographs(bench.work, bench.pick(128, 64))
    return [_training(bench, photographs), _bootstrapping(bench, photographs)]


def _training(bench: Bench, photographs: Photographs) -> Figure:
    """Photographs a second as the stage logs them, its first step aside, over five epochs: in one the vMF loss
    joins in, which is its share in the paper.
    """
    epochs = bench.pick(5, 2)
    urls = [_training_run(bench, photographs, processes, epochs) for processes in PROCESSES]

    def speed(url: str, processes: int) -> float:
        _share(StageRequest(run=url, stage="train", cycle=0, force=True), processes, bench.work)
        return logged_speed(url, batch_size=SHARE * processes)

    one, two = _rounds(bench, [lambda: speed(urls[0], 1), lambda: speed(urls[1], 2)])
    config = open_run(urls[0]).config
    steps = {p: epochs * (len(photographs.files()) // (SHARE * p)) for p in PROCESSES}
    return _figure(
        "scaling train",
        one,
        two,
        {"photographs": len(photographs.files()), **{f"steps of {SHARE * p}": steps[p] for p in PROCESSES}},
        f"{photographs.kind}; weak scaling, {SHARE} photographs a step and process, loading included, "
        f"{config.network.architecture} {config.augmentation.crop_size} px {config.numerics.precision}",
    )


def _training_run(bench: Bench, photographs: Photographs, processes: int, epochs: int) -> str:
    url = make_run(
        bench.work / f"scaling-train-{processes}",
        "small",
        [f"numerics.world_size={processes}", "numerics.threads=1", f"optimization.batch_size={SHARE * processes}",
         f"schedule.epochs={epochs}", "placement.log_every_steps=1", "masks.refresh_batch_norm=0"],
        photographs.folder,
    )  # fmt: skip
    bootstrap(url, again=False)
    return url


def logged_speed(url: str, *, batch_size: int) -> float:
    """Photographs a second over all steps that the stage `train` logged last, but the first."""
    run, key = open_run(url), standing(url, "train", 0).key
    assert key is not None
    lines = read_metrics(run, find_step(run.config, "train", 0), key)[1:]
    seconds = [batch_size / float(line["images_per_second"]) for line in lines]
    return batch_size * len(seconds) / sum(seconds)


def _bootstrapping(bench: Bench, photographs: Photographs) -> Figure:
    """The whole stage, from open run to commit. K is fixed, so that both processes have the same to do."""
    url = make_run(
        bench.work / "scaling-bootstrap",
        config_name(bench),
        ["numerics.world_size=2", "numerics.threads=1", "numerics.precision=auto", "optimization.batch_size=16",
         "masks.refresh_batch_norm=0", "masks.rows_per_shard=16", f"masks.clusters={bench.pick(129, 17)}"],
        photographs.folder,
    )  # fmt: skip
    request = StageRequest(run=url, stage="bootstrap-masks", cycle=0, force=True)
    count = len(photographs.files())

    def speed(processes: int) -> float:
        return count / _share(request, processes, bench.work)

    one, two = _rounds(bench, [lambda: speed(1), lambda: speed(2)])
    config = open_run(url).config
    return _figure(
        "scaling bootstrap-masks",
        one,
        two,
        made(url),
        f"{photographs.kind}; the same photographs, {config.network.architecture} {config.numerics.precision}, K fixed",
    )


def _rounds(bench: Bench, speeds: list[Callable[[], float]]) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in speeds]
    for _ in range(bench.pick(3, 1)):
        for speed, list_ in zip(speeds, found, strict=True):
            list_.append(speed())
    return found


def _figure(name: str, one: list[float], two: list[float], counts: dict[str, float], note: str) -> Figure:
    ratio = Summary.of(quotients(two, one))
    return Figure(
        name,
        ratio.median,
        TARGET,
        "higher",
        "x",
        counts,
        (ratio.low, ratio.high),
        len(one),
        {"1 process photographs/s": Summary.of(one).median, "2 processes photographs/s": Summary.of(two).median},
        note,
    )


def _share(request: StageRequest, processes: int, work: Path) -> float:
    """Run a stage in so many processes; its seconds."""
    out = work / "seconds.txt"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
               "-m", "benchmarks.share", request.model_dump_json(), str(out)]  # fmt: skip
    subprocess.run(command, cwd=_ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    return float(out.read_text())

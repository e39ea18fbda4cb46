"""From a request to a committed artifact, by the launcher that the run names."""

import os
from importlib import import_module
from pathlib import Path

from flows.watch import Watch
from schemas.errors import ConfigError, PausedError, PreemptedError, StageFailedError
from schemas.extras import check_extras
from schemas.plan import Step, find_step, plan
from schemas.stages import StageRequest, StageResult
from storage import layout
from storage.alarms import take_alarm
from storage.artifacts import Standings
from storage.run import Run, open_run

LAUNCHERS = ("process", "inline", "deployment")


def run_step(request: StageRequest, watch: Watch) -> StageResult:
    """See to it that a stage is done; storage is the judge of whether it is.

    Raises:
        PausedError: it stopped at an alarm of the learning monitor (placement.pause_on_alarm).
        CyborgsError: as the launcher raises it, or the stage ended well and left no artifact.
    """
    before = _result(request, computed=False)
    if before is not None:
        return before
    _pause_at_alarm(request)  # of an attempt whose flow was gone when it ended
    _note_pause(request)
    # By name and late: one of them brings Prefect, another torch.
    try:
        import_module(f"flows.launchers.{launcher(watch.run)}").launch(request, watch)
    except PreemptedError as error:
        if error.__cause__ is None:  # nobody asked this process to stop: the stage ended by itself
            _pause_at_alarm(request)
        raise
    after = _result(request, computed=True)
    if after is None:
        raise StageFailedError(f"{request.stage}: ended without an artifact; give the same command again")
    watch.finish()
    return after


def stop_for_a_look(run: Run, result: StageResult) -> None:
    """Where placement.pause_after names a stage that was computed and that nobody was asked to look at yet.

    Raises:
        PausedError: with what to look at, and how to go on.
    """
    (step,) = (step for step in plan(run.config) if step.name == result.name)
    # What was computed before this process came is told by the note alone. Of what it saw computed it knows itself: of
    # two that waited for the same stage, the other may have taken the note.
    noted = _take_note(run, step) == result.path.rpartition("/")[2]
    pause_after = open_run(run.store.url).config.placement.pause_after  # as it is now, like the note
    if step.stage not in pause_after or not (noted or result.computed):
        return
    if all(found.state == "done" for found in Standings(run).all()):
        return  # nothing is left to go on with
    shown = {
        "index-images": f"{run.store.url}/{result.path}/{layout.QUARANTINE}",
        "bootstrap-masks": f"cyborgs masks show {run.store.url} --cycle {step.cycle}",
    }.get(step.stage, f"cyborgs status {run.store.url}")
    raise PausedError(
        f"paused after {result.name} (placement.pause_after); have a look: {shown}; the same command goes on"
    )


def _take_note(run: Run, step: Step) -> str | None:
    """The key of the artifact that a run is to stop after, told once."""
    note = layout.pause_note(step)
    try:
        noted = run.store.read(note).decode(errors="replace")
    except FileNotFoundError:
        return None
    run.store.delete(note)
    return noted


def _note_pause(request: StageRequest) -> None:
    """Before the stage, on storage: who is killed right after its commit has still to stop when started again."""
    run = open_run(request.run)
    step = find_step(run.config, request.stage, request.cycle)
    key = Standings(run).of(step).key
    if step.stage in run.config.placement.pause_after and key is not None:
        run.store.write(layout.pause_note(step), key.encode())


def _pause_at_alarm(request: StageRequest) -> None:
    run = open_run(request.run)
    step = find_step(run.config, request.stage, request.cycle)
    words = take_alarm(run, step)
    if words is not None and run.config.placement.pause_on_alarm:
        raise PausedError(f"paused in {step.name} (placement.pause_on_alarm): {words}; the same command goes on")


def check_machine(run: Run) -> None:
    """Before hours of work: whether this machine has the GPUs and packages that the run's stages will ask for here.

    Raises:
        ConfigError: it has some GPUs, and too few; a package is missing.
    """
    config = run.config
    if launcher(run) != "deployment":
        check_extras(config)
    gpus, wanted = _count_gpus(), config.numerics.world_size
    if launcher(run) == "process" and config.placement.device in ("auto", "cuda") and 0 < gpus < wanted:
        batch_size = config.optimization.batch_size
        fewer = max(size for size in range(1, gpus + 1) if batch_size % (size * config.numerics.accumulation) == 0)
        raise ConfigError(
            f"numerics.world_size {wanted}: each process needs a GPU, and this machine has {gpus}: add "
            f"--set numerics.world_size={fewer} (the batch stays {batch_size}), "
            "or see docs/distributed.md for several machines"
        )


def _count_gpus() -> int:
    """GPUs that the driver shows, without torch: a machine that only orchestrates has none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    driver = Path("/proc/driver/nvidia/gpus")
    return len(list(driver.iterdir())) if driver.is_dir() else 0


def launcher(run: Run) -> str:
    """The launcher that a run's placement names; `auto` leaves it to the place where the flow runs."""
    name: str = run.config.placement.launcher
    if name == "auto":
        name = os.environ.get("CYBORGS_LAUNCHER") or "process"
    if name not in LAUNCHERS:
        raise ConfigError(f"CYBORGS_LAUNCHER={name}: choose one of {', '.join(LAUNCHERS)}")
    return name


def _result(request: StageRequest, *, computed: bool) -> StageResult | None:
    run = open_run(request.run)
    found = Standings(run).of(find_step(run.config, request.stage, request.cycle))
    if found.manifest is None or found.folder is None:
        return None
    return StageResult(name=found.step.name, path=found.folder, content=found.manifest.content, computed=computed)

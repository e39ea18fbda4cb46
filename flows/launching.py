"""From a request to a committed artifact, by the launcher that the run names."""

import os
from importlib import import_module

from flows.watch import Watch
from schemas.errors import ConfigError, StageFailedError
from schemas.plan import find_step
from schemas.stages import StageRequest, StageResult
from storage.artifacts import Standings
from storage.run import open_run

LAUNCHERS = ("process", "inline", "deployment")


def run_step(request: StageRequest, watch: Watch) -> StageResult:
    """See to it that a stage is done; storage is the judge of whether it is.

    Raises:
        CyborgsError: as the launcher raises it, or the stage ended well and left no artifact.
    """
    before = _result(request, computed=False)
    if before is not None:
        return before
    # By name and late: one of them brings Prefect, another torch.
    import_module(f"flows.launchers.{launcher(watch)}").launch(request, watch)
    after = _result(request, computed=True)
    if after is None:
        raise StageFailedError(f"{request.stage}: ended without an artifact; give the same command again")
    watch.finish()
    return after


def launcher(watch: Watch) -> str:
    """The launcher that a run's placement names; `auto` leaves it to the place where the flow runs."""
    name: str = watch.run.config.placement.launcher
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

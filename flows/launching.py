"""From a request to a committed artifact, by the launcher that the run names."""

from collections.abc import Callable

from flows.launchers import inline, process
from schemas.errors import StageFailedError
from schemas.plan import find_step
from schemas.stages import StageRequest, StageResult
from storage.artifacts import Standings
from storage.run import open_run

LAUNCHERS: dict[str, Callable[[StageRequest], None]] = {"process": process.launch, "inline": inline.launch}


def run_step(request: StageRequest) -> StageResult:
    """See to it that a stage is done; storage is the judge of whether it is.

    Raises:
        CyborgsError: as the launcher raises it, or the stage ended well and left no artifact.
    """
    before = _result(request, computed=False)
    if before is not None and not request.force:
        return before
    launcher = open_run(request.run).config.placement.launcher
    LAUNCHERS[launcher](request)
    after = _result(request, computed=True)
    if after is None:
        raise StageFailedError(f"{request.stage}: ended without an artifact; give the same command again")
    return after


def _result(request: StageRequest, *, computed: bool) -> StageResult | None:
    run = open_run(request.run)
    found = Standings(run).of(find_step(run.config, request.stage, request.cycle))
    if found.manifest is None or found.folder is None:
        return None
    return StageResult(name=found.step.name, path=found.folder, content=found.manifest.content, computed=computed)

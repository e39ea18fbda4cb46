"""Running one stage: find its inputs, hold its lease, do the work or take up what is half done, commit."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module

from schemas.errors import ConfigError, CyborgsError, PreemptedError, RunError, UnreachableError
from schemas.extras import check_trackers
from schemas.plan import Step, find_step, ingredients
from schemas.stages import StageName, StageRequest, StageResult
from stages.context import Context, Outcome
from stages.heart import Heart
from stages.interruption import StopRequest, stop_on_signals
from stages.metrics_log import MetricsLog, last_logged
from stages.mishaps import explained
from stages.progress import duration
from stages.team import ALONE, SHARED_STAGES, Team
from stages.tracking.trackers import Trackers
from storage import layout
from storage.artifacts import Standing, Standings, commit_artifact, retract
from storage.provenance import provenance
from storage.run import Run, open_run

_WORK, _NONE = "work", ""
"""What the leader tells the others: the key of the artifact to compute, or that there is nothing to do."""


def load_stage(name: StageName) -> Callable[[Context], Outcome | None]:
    """The function of a stage. Imported by name and late: torch alone takes seconds, and not every stage needs it."""
    function = name.replace("-", "_")
    stage: Callable[[Context], Outcome | None] = getattr(import_module(f"stages.{function}"), function)
    return stage


def processes_to_start(request: StageRequest, team: Team) -> int:
    """How many processes a stage still has to be given: 1 where it needs no more, or has them.

    Raises:
        ConfigError: it was started in another number of processes than its run says.
    """
    run = open_run(request.run)
    wanted = run.config.numerics.world_size
    if request.stage not in SHARED_STAGES:
        return 1
    if team.size == 1 and wanted > 1:
        found = _locate(run, find_step(run.config, request.stage, request.cycle).name, Standings(run))
        return 1 if found.state == "done" and not request.force else wanted
    # Masks are the same from any number of processes.
    if team.size != wanted and request.stage != "bootstrap-masks":
        raise ConfigError(
            f"{request.stage} of {request.run}: started in {team.size} processes, its run was made for "
            f"numerics.world_size {wanted}: start {wanted}"
        )
    return 1


def follow_stage(request: StageRequest, team: Team) -> None:
    """Compute this process' share of a stage that another process leads.

    Raises:
        CyborgsError: as for `run_stage`.
    """
    if request.stage not in SHARED_STAGES:
        return
    with stop_on_signals() as stop:
        key = team.hear(_WORK, check=stop.check)
        if not key:
            return
        run = open_run(request.run)
        step = find_step(run.config, request.stage, request.cycle)
        standings = Standings(run)
        found = _locate(run, step.name, standings)
        if found.key != key or found.folder is None:
            raise RunError(
                f"{step.name} of {request.run}: process {team.rank} sees another run there than process 0; "
                "all machines need the same storage"
            )
        with explained(run, step):
            load_stage(step.stage)(Context(run, step, key, found.folder, standings, stop, team))
        team.close()


def run_stage(request: StageRequest, team: Team = ALONE) -> StageResult:
    """Run a stage to its committed artifact; a stage that is done is left alone unless forced.

    Args:
        team: the processes that compute it; this one leads.

    Raises:
        CyborgsError: what a person can mend; PreemptedError when asked to stop.
    """
    team = team if request.stage in SHARED_STAGES else ALONE
    team.meet()
    run = open_run(request.run)
    step = find_step(run.config, request.stage, request.cycle)
    found = _locate(run, step.name, Standings(run))
    assert found.folder is not None and found.key is not None
    if found.state == "done" and not request.force:
        team.tell(_WORK, _NONE)
        return _result(found, computed=False)
    lease = f"{found.folder}/{layout.LEASE}"
    with (
        explained(run, step),
        stop_on_signals() as stop,
        _stopping(step, stop),
        run.store.lease(
            lease,
            waiting=lambda holder: _say(f"{step.name}: waiting for {holder}"),
            check=stop.check,
            lost=stop.give_way,
        ) as held,
    ):
        stop.still_held = held
        standings = Standings(run)
        found = _locate(run, step.name, standings)
        if found.state == "done" and not request.force:
            run.store.delete(f"{found.folder}/{layout.PARTIAL}")
            team.tell(_WORK, _NONE)
            return _result(found, computed=False)
        if (request.force and found.state == "done") or found.problem is not None:
            if found.problem is not None:
                _say(f"{step.name}: {found.problem}; making it again")
            retract(run, found)
        _work(run, found, standings, stop, team)
    if step.cycle is not None:
        _write_report(run, step)
    return _result(_locate(run, step.name, Standings(run)), computed=True)


def _locate(run: Run, name: str, standings: Standings) -> Standing:
    found = standings.input(name)
    if found.key is None:
        missing = [role for _, role in found.step.inputs if standings.input(role).manifest is None]
        raise RunError(
            f"{name} of {run.store.url} needs {' and '.join(missing)} first: `cyborgs run` makes all in order"
        )
    return found


def _work(run: Run, found: Standing, standings: Standings, stop: StopRequest, team: Team) -> None:
    assert found.folder is not None and found.key is not None
    step = found.step
    check_trackers(run.config)
    run.store.sweep(found.folder)  # what a killed attempt left half-written
    team.tell(_WORK, found.key)
    trackers = Trackers(run, step, found.key, told=last_logged(run, step, found.key))
    log = MetricsLog(run, step, found.key)
    if found.state == "partial":
        _say(f"{step.name}: going on from where it stopped")
    started = time.monotonic()
    with Heart(run, step) as heart:  # until the commit, which reads and digests all that was written
        context = Context(run, step, found.key, found.folder, standings, stop, team, log, heart, trackers)
        try:
            with _ending(log), contextlib.closing(trackers):
                outcome = load_stage(step.stage)(context)
                assert outcome is not None
                if not stop.owns_work():
                    stop.check()
        except PreemptedError as error:
            raise PreemptedError(f"{step.name}: {error}") from None
        team.close()
        seconds = time.monotonic() - started
        contents = {role: context.input_manifest(role).content for role, _ in step.inputs}
        manifest = commit_artifact(
            run,
            step,
            key=found.key,
            parts=ingredients(run.config, step, inputs=contents, pins=run.record.pins),
            content=outcome.content,
            summary=outcome.summary,
            made_by=provenance(seconds=seconds, device=context.used_device, warnings=tuple(context.warnings)),
            written=context.written,
        )
    if manifest.content != outcome.content:
        _say(
            f"warning: {step.name}: another process committed first, with other content; "
            "the numerics of the two machines differ"
        )
    if step.stage == "bootstrap-masks" and step.cycle is not None:
        run.store.point(layout.masks_pointer(step.cycle), f"{found.folder}/{layout.MASKS}")
    figures = "  ".join(f"{name} {value}" for name, value in manifest.summary.items())
    _say(f"{step.name}: done in {duration(seconds)}  {figures}")


def _write_report(run: Run, step: Step) -> None:
    """What there is to see so far. A report that cannot be written is no reason to stop before the cycle's end."""
    try:
        with explained(run, step):
            import_module("stages.report.page").write_report(run)
    except (CyborgsError, OSError) as error:
        if step.stage == "evaluate":
            raise
        _say(f"warning: {step.name}: no report was written: {error}")


@contextlib.contextmanager
def _stopping(step: Step, stop: StopRequest) -> Iterator[None]:
    """Storage that is away when somebody asks to stop is not waited for, and no fault of the stage."""
    try:
        yield
    except UnreachableError as error:
        if not stop.asked:
            raise
        raise PreemptedError(f"{step.name}: stopped; {error}") from error


@contextlib.contextmanager
def _ending(log: MetricsLog) -> Iterator[None]:
    """Close the log after the work; all of it outlives this process before a manifest says that the work is whole."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # why the work ended is what a person has to know
            log.close()
        raise
    log.flush()
    log.close()


def _result(found: Standing, *, computed: bool) -> StageResult:
    if found.manifest is None or found.folder is None:
        raise RunError(f"{found.step.name}: {found.problem or 'its manifest is gone'}")
    return StageResult(name=found.step.name, path=found.folder, content=found.manifest.content, computed=computed)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)

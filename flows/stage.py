"""The flow `cyborgs-stage`: one stage by itself, one deployment for each; what the launcher `deployment` starts."""

from pathlib import PurePath
from typing import Annotated, Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Crashed, Failed
from pydantic import Field

from flows.launchers import process
from flows.launchers.deployment import PREEMPTED
from flows.page import watch_on_page
from flows.prepare import locate_run
from flows.stopping import as_prefect_ends
from schemas.errors import ConfigError, CyborgsError, PreemptedError, StageCrashedError
from schemas.plan import find_step, step_name
from schemas.stages import STAGE_NAMES, StageName, StageRequest
from storage.alarms import take_alarm, untold_alarm
from storage.run import open_run

_GRACE_SECONDS = 25.0
"""Prefect kills this process after 30 s, and a stage that hangs would outlive it and keep its container."""


def _stage() -> StageName:
    if deployment.name not in STAGE_NAMES:
        raise ConfigError(f"cyborgs-stage runs as a deployment named after a stage: one of {', '.join(STAGE_NAMES)}")
    return cast(StageName, deployment.name)


def _name() -> str:
    given = flow_run.parameters
    return f"{step_name(_stage(), given.get('cycle'))} of {PurePath(str(given.get('run'))).name}"


@flow(name="cyborgs-stage", flow_run_name=_name, persist_result=False)
def cyborgs_stage(run: str, cycle: Annotated[int, Field(ge=0)] | None = None, force: bool = False) -> State[Any] | None:
    """Run one stage of a run that exists; the deployment's name says which. A stage that is done is left alone.

    Args:
        run: Where the run is kept: a name below CYBORGS_STORAGE, a path or a URL.
        cycle: For bootstrap-masks, train and evaluate: which, from 0. Left out for index-images and warm-up.
        force: Compute again what is done. What depends on it runs again with the next cyborgs/full, if the content
            changed.
    """
    with as_prefect_ends():
        # In a process of its own: Prefect's threads and signal handlers stay out of it, and PID 1 can wait for both.
        try:
            request = StageRequest(run=locate_run(run), stage=_stage(), cycle=cycle, force=force)
            watch = watch_on_page(request)
            process.launch(request, watch, grace=_GRACE_SECONDS)
            watch.finish()
        except PreemptedError as error:
            if error.__cause__ is not None:
                raise
            words = _alarm(request)
            if words is not None:
                return Completed(name="Paused", message=f"{words}; run it again to go on")
            return Crashed(name=PREEMPTED, message=str(error))
        except StageCrashedError as error:
            return Crashed(message=str(error))
        except CyborgsError as error:
            return Failed(message=str(error))
    return None


def _alarm(request: StageRequest) -> str | None:
    """At what the stage paused; the flow that started this one, where there is one, tells it and takes it as told."""
    run = open_run(request.run)
    step = find_step(run.config, request.stage, request.cycle)
    return take_alarm(run, step) if flow_run.parent_flow_run_id is None else untold_alarm(run, step)

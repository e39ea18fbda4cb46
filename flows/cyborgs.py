"""The flow `cyborgs`: the alternation of mask bootstrapping and training, as a short list of verbs (Algorithm 3)."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.launching import run_step, stop_for_a_look
from flows.page import show_results, watch_on_page
from flows.prepare import locate_run, prepare_run
from flows.requests import understand
from flows.stopping import as_prefect_ends
from schemas.errors import CyborgsError, PausedError, PreemptedError, StageFailedError
from schemas.plan import Step, bootstrap_epochs, makes_masks
from schemas.stages import StageName, StageRequest, StageResult
from storage.retention import restore_needed, thin_out
from storage.run import Run


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def phase(stage: StageName, run: str) -> StageResult:
    """A phase that happens once per run."""
    request = StageRequest(run=run, stage=stage)
    return run_step(request, watch_on_page(request))


@task(task_run_name="{stage} cycle {cycle}", cache_policy=NO_CACHE, persist_result=False)
def cycle_phase(stage: StageName, run: str, cycle: int) -> StageResult:
    """A phase of a cycle."""
    request = StageRequest(run=run, stage=stage, cycle=cycle)
    return run_step(request, watch_on_page(request))


def _name() -> str:
    given = flow_run.parameters
    return f"cyborgs {given.get('run') or given.get('config') or 'demo'}"


@flow(name="cyborgs", flow_run_name=_name, persist_result=False)
def cyborgs(
    config: str | None = None,
    set: list[str] | None = None,
    data: list[str] | None = None,
    run: str | None = None,
) -> list[str] | State[Any]:
    """Pretrain a backbone on a folder of photographs; what is done already costs a look at its manifest.

    Args:
        config: A name under configs/ (demo, small, coco) or a YAML file. Left out: what the run was made with, and demo
            for a new one.
        set: Settings to lay over it, such as ["train.temperature=0.2"].
        data: Folders of photographs or COCO json files, as the containers see them: below /data. Left out: where the
            run has them from.
        run: Where the run is kept: a name below CYBORGS_STORAGE, a path or a URL. The same again goes on where it
            stopped. Left out: a folder named after the config.

    Returns:
        Evaluations that failed: they hang beside the path and do not stop it.
    """
    try:
        with as_prefect_ends():
            asked = understand(config, set or [], locate_run(run) if run is not None else None, default="demo")
            return alternate(prepare_run(asked.url, asked.config, name=asked.name, data=tuple(data or ())))
    except PausedError as error:
        if deployment.id is None:
            raise
        return Completed(name="Paused", message=str(error))
    except CyborgsError as error:
        if deployment.id is None:
            raise
        return Failed(message=str(error))  # the page shows the line, without a traceback


def make(run: Run, step: Step) -> StageResult:
    """One step of the plan, where it is not done."""
    if step.cycle is None:
        return phase(step.stage, run.store.url)
    return cycle_phase(step.stage, run.store.url, step.cycle)


def alternate(run: Run) -> list[str]:
    """Algorithm 3 on a run that was prepared; returns the evaluations that failed."""
    url = run.store.url
    failed = []
    restore_needed(run)
    stop_for_a_look(run, phase("index-images", url))
    stop_for_a_look(run, phase("warm-up", url))
    for cycle in range(len(bootstrap_epochs(run.config))):
        if makes_masks(run.config, cycle):
            stop_for_a_look(run, cycle_phase("bootstrap-masks", url, cycle))
        trained = cycle_phase("train", url, cycle)
        try:
            evaluated = cycle_phase("evaluate", url, cycle)
        except PreemptedError:
            raise
        except StageFailedError:
            failed.append(f"evaluate cycle {cycle}")
        else:
            stop_for_a_look(run, evaluated)
        show_results(run)
        thin_out(run)
        stop_for_a_look(run, trained)  # with its evaluation
    return failed

"""The flow `cyborgs`: the alternation of mask bootstrapping and training, as a short list of verbs (Algorithm 3)."""

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.launching import run_step
from flows.prepare import default_run, prepare_run
from schemas.loading import load_config
from schemas.plan import bootstrap_epochs
from schemas.stages import StageName, StageRequest, StageResult
from storage.run import open_run


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def once(stage: StageName, run: str) -> StageResult:
    """A phase that happens once per run."""
    return run_step(StageRequest(run=run, stage=stage))


@task(task_run_name="{stage} cycle {cycle}", cache_policy=NO_CACHE, persist_result=False)
def phase(stage: StageName, run: str, cycle: int) -> StageResult:
    """A phase of a cycle."""
    return run_step(StageRequest(run=run, stage=stage, cycle=cycle))


@flow(name="cyborgs", flow_run_name="cyborgs {run}", validate_parameters=False)
def alternate(run: str) -> list[str]:
    """All phases of a prepared run; those that are done cost a look at their manifest.

    Returns:
        Names of the evaluations that failed: they hang beside the path and do not stop it.
    """
    failed = []
    once("index-images", run)
    once("warm-up", run)
    for cycle in range(len(bootstrap_epochs(open_run(run).config))):
        phase("bootstrap-masks", run, cycle)
        phase("train", run, cycle)
        state = phase("evaluate", run, cycle, return_state=True)
        if not state.is_completed():
            failed.append(f"evaluate cycle {cycle}")
    return failed


@flow(name="cyborgs", flow_run_name="cyborgs {config}", validate_parameters=False)
def cyborgs(
    config: str = "demo",
    set: list[str] | None = None,
    data: list[str] | None = None,
    run: str | None = None,
) -> list[str]:
    """Pretrain a backbone on a folder of photographs.

    Args:
        config: a name under configs/, or a YAML file.
        set: settings to lay over it, such as `train.temperature=0.2`.
        data: folders of photographs or COCO json files.
        run: where the run is kept; the same again resumes.
    """
    settings = load_config(config, set or [])
    prepared = prepare_run(run or default_run(config), settings, name=config, data=tuple(data or ()))
    return alternate.fn(prepared.store.url)

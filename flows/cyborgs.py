"""The flow `cyborgs`: the alternation of mask bootstrapping and training, as a short list of verbs (Algorithm 3)."""

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.launching import run_step
from flows.prepare import default_run, prepare_run
from schemas.errors import PreemptedError, StageFailedError
from schemas.loading import load_config
from schemas.plan import bootstrap_epochs
from schemas.stages import StageName, StageRequest, StageResult


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def phase(stage: StageName, run: str) -> StageResult:
    """A phase that happens once per run."""
    return run_step(StageRequest(run=run, stage=stage))


@task(task_run_name="{stage} cycle {cycle}", cache_policy=NO_CACHE, persist_result=False)
def cycle_phase(stage: StageName, run: str, cycle: int) -> StageResult:
    """A phase of a cycle."""
    return run_step(StageRequest(run=run, stage=stage, cycle=cycle))


@flow(name="cyborgs", flow_run_name="cyborgs {config}", persist_result=False)
def cyborgs(
    config: str = "demo",
    set: list[str] | None = None,
    data: list[str] | None = None,
    run: str | None = None,
) -> list[str]:
    """Pretrain a backbone on a folder of photographs; what is done already costs a look at its manifest.

    Args:
        config: a name under configs/, or a YAML file.
        set: settings to lay over it, such as `train.temperature=0.2`.
        data: folders of photographs or COCO json files.
        run: where the run is kept; the same again resumes.

    Returns:
        Evaluations that failed: they hang beside the path and do not stop it.
    """
    settings = load_config(config, set or [])
    url = prepare_run(run or default_run(config), settings, name=config, data=tuple(data or ())).store.url
    failed = []
    phase("index-images", url)
    phase("warm-up", url)
    for cycle in range(len(bootstrap_epochs(settings))):
        cycle_phase("bootstrap-masks", url, cycle)
        cycle_phase("train", url, cycle)
        try:
            cycle_phase("evaluate", url, cycle)
        except PreemptedError:
            raise
        except StageFailedError:
            failed.append(f"evaluate cycle {cycle}")
    return failed

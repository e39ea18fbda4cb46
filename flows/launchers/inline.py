"""A stage in this very process, for debugging: breakpoints work, Prefect's threads are beside it."""

from importlib import import_module

from flows.watch import Watch
from schemas.errors import CyborgsError, PreemptedError, StageFailedError
from schemas.stages import StageRequest


def launch(request: StageRequest, watch: Watch) -> None:
    """Run a stage here.

    Raises:
        PreemptedError: the stage stopped on request.
        StageFailedError: it ended without its artifact; its own message has been printed.
    """
    try:
        # By name and late: a machine that only orchestrates has no torch.
        import_module("stages.execute").run_stage(request)
    except PreemptedError:
        raise
    except CyborgsError as error:
        watch.say(str(error))
        raise StageFailedError(f"{watch.step.name}: failed: see above", exit_code=error.exit_code) from error

"""A stage in this very process, for debugging: breakpoints work, Prefect's threads are beside it."""

import sys
from importlib import import_module

from schemas.errors import CyborgsError, PreemptedError, StageFailedError
from schemas.plan import step_name
from schemas.stages import StageRequest


def launch(request: StageRequest) -> None:
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
        print(error, file=sys.stderr, flush=True)
        name = step_name(request.stage, request.cycle)
        raise StageFailedError(f"{name}: failed, see above", exit_code=error.exit_code) from error

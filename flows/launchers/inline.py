"""A stage in this very process, for debugging: breakpoints work, Prefect's threads are beside it."""

from schemas.stages import StageRequest


def launch(request: StageRequest) -> None:
    """Run a stage here.

    Raises:
        CyborgsError: as the stage raises it.
    """
    # By name and late: a machine that only orchestrates has no torch.
    from importlib import import_module

    import_module("stages.execute").run_stage(request)

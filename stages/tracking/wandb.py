"""Weights & Biases: one of its runs for all stages. Mode, server and key come from its own environment variables."""

import os
from collections.abc import Mapping
from typing import Any

from schemas.errors import ConfigError
from stages.tracking.tracker import Tracked

_STEP = "step"
_FINISH_SECONDS = 8
"""How long the end of a stage may wait for the server; what was not uploaded stays on disk, for `wandb sync`."""


class WeightsAndBiases:
    """A run of W&B that is open in this process."""

    def __init__(self, run: Any) -> None:
        self._run = run
        # Its own count of steps only grows; ours starts again where an attempt goes on from an earlier save.
        run.define_metric(_STEP, hidden=True)
        run.define_metric("*", step_metric=_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Hand them to its process, which sends them."""
        self._run.log({**values, _STEP: step})

    def close(self) -> None:
        """Wait for what is still to be sent, for a while."""
        self._run.finish()


def open_tracker(tracked: Tracked, first_step: int) -> WeightsAndBiases:
    """Start, or go on with, the W&B run of this run. No settings, code or output are sent.

    Raises:
        ConfigError: it is to send, and has no key.
    """
    del first_step  # nothing that was sent is taken back
    # Reports of its own faults go to a third party, for which nobody asked. Both are read when it is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    # Asked for a key on a terminal, a stage in the background would stand still.
    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        raise ConfigError("no key: set WANDB_API_KEY, or WANDB_MODE=offline")
    folder = None  # as WANDB_DIR says, or the working directory
    if "WANDB_DIR" not in os.environ and tracked.logs is not None:
        tracked.logs.mkdir(parents=True, exist_ok=True)
        folder = tracked.logs
    run = wandb.init(
        project=tracked.project,
        id=tracked.identity,
        name=tracked.run,
        resume="allow",
        reinit="create_new",
        dir=folder,
        settings=wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            finish_timeout=_FINISH_SECONDS,
        ),
    )
    return WeightsAndBiases(run)

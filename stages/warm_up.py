"""`warm-up`: start weights, then W epochs of the vMF loss alone (section 3.4)."""

from pathlib import Path

from torch import Tensor

from cyborgs.augmentation.dataset import ViewDataset
from cyborgs.training.pretraining import Pretraining
from cyborgs.training.state import TrainingState
from schemas.errors import ConfigError
from schemas.extras import check_extras
from stages.build import build_augmentation, start_state
from stages.checkpoint import write_checkpoint
from stages.context import Context, Outcome
from stages.epochs import count_steps, run_epochs
from storage.checkpoints import read_start_weights
from storage.photographs import file_digest


def warm_up(context: Context) -> Outcome | None:
    """Write the state after warm-up; with W = 0 that is the start state."""
    config = context.config
    check_extras(config)  # before hours of work that bootstrapping could not go on from
    photographs, reader = context.photographs()
    pretraining = _start(context, count_steps(context, len(photographs)))
    metrics = {}
    if isinstance(pretraining, Pretraining):  # other methods have no epochs here
        metrics = run_epochs(
            context,
            pretraining,
            ViewDataset(reader, build_augmentation(config), seed=config.seed),
            rows=len(photographs),
            pairs=lambda _epoch: 1,
            train_step=lambda batch, _epoch: pretraining.warm_up_step(batch),
        )
    if not context.team.leads:
        return None
    content = write_checkpoint(pretraining, context.write)
    summary = {"vmf_loss": round(metrics["vmf_loss"], 4)} if metrics else {}
    return Outcome(content, {"epochs": context.step.last_epoch, **summary})


def _start(context: Context, steps_per_epoch: int) -> TrainingState:
    config = context.config
    start = _start_weights(context) if config.network.start != "random" else None
    try:
        return start_state(
            config,
            schedule_epochs=context.step.schedule_epochs,
            steps_per_epoch=steps_per_epoch,
            device=context.device,
            world=context.world,
            start=start,
        )
    except ValueError as error:
        if start is None:
            raise
        raise ConfigError(
            f"network.start {context.run.record.start}, for {config.network.architecture}: {error}"
        ) from None


def _start_weights(context: Context) -> dict[str, Tensor]:
    path, pinned = context.run.record.start, context.run.record.pins.get("start")
    assert path is not None and pinned is not None
    if not Path(path).is_file() or file_digest(Path(path)) != pinned:
        raise ConfigError(f"network.start {path}: gone or changed since the run was created; put it back")
    try:
        return read_start_weights(Path(path))
    except ValueError as error:
        raise ConfigError(f"network.start {path}, for {context.config.network.architecture}: {error}") from None

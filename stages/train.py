"""`train`: the epochs of one cycle on the mask loss, the vMF loss joining in every M epochs (section 3.2, 3.4).

Or on the loss of another method, for comparison (`train.method`).
"""

from collections.abc import Callable
from pathlib import Path

from cyborgs.augmentation.dataset import Batch, Regions, ViewDataset
from cyborgs.baselines.pretraining import ImagePretraining
from cyborgs.training.pretraining import Pretraining
from cyborgs.training.state import Metrics, TrainingState
from schemas.digests import digest_json
from stages.build import build_augmentation, build_contrast, joins_vmf, start_state
from stages.checkpoint import read_checkpoint, write_checkpoint
from stages.context import Context, Outcome
from stages.epochs import count_steps, run_epochs
from storage import layout
from storage.mask_cache import PackedMasks, pack_masks


def train(context: Context) -> Outcome | None:
    """Write the state at the end of the cycle."""
    config = context.config
    photographs, reader = context.photographs()
    labels = _pack(context, context.input("masks").path(layout.MASKS)) if config.train.method == "cyborgs" else None
    per_epoch = count_steps(context, len(photographs))
    pretraining = start_state(
        config,
        schedule_epochs=context.step.schedule_epochs,
        steps_per_epoch=per_epoch,
        device=context.device,
        world=context.world,
    )
    read_checkpoint(context.input("checkpoint"), pretraining, step=context.step.first_epoch * per_epoch)
    regions = None
    if labels is not None:
        regions = Regions(
            labels=labels,
            grid=config.network.region_grid,
            count=config.train.regions,
            sampling=config.train.region_sampling,
        )
    train_step, pairs = _by_method(context, pretraining)
    metrics = run_epochs(
        context,
        pretraining,
        ViewDataset(reader, build_augmentation(config), seed=config.seed, regions=regions),
        rows=len(photographs),
        pairs=pairs,
        train_step=train_step,
    )
    if context.team.local_rank == 0 and labels is not None:
        labels.remove()
    if not context.team.leads:
        return None
    content = write_checkpoint(pretraining, context.write)
    shown = ("mask_loss", "projection_std", "orphans") if labels is not None else ("loss", "projection_std")
    figures = {name: round(metrics[name], 4) for name in shown}
    return Outcome(content, {"epochs": context.step.last_epoch, **figures})


def _by_method(
    context: Context, pretraining: TrainingState
) -> tuple[Callable[[Batch, int], Metrics], Callable[[int], int]]:
    """(batch, epoch) -> what a step measured; epoch -> pairs of views that a sample needs."""
    config = context.config
    if isinstance(pretraining, ImagePretraining):
        return (lambda batch, _epoch: pretraining.train_step(batch)), (lambda _epoch: 1)
    assert isinstance(pretraining, Pretraining)
    contrast = build_contrast(config)

    def train_step(batch: Batch, epoch: int) -> Metrics:
        return pretraining.train_step(batch, contrast, with_vmf=joins_vmf(config, epoch))

    def pairs(epoch: int) -> int:
        return 2 if contrast.vmf_update == "separate" and joins_vmf(config, epoch) else 1

    return train_step, pairs


def _pack(context: Context, store: Path) -> PackedMasks:
    """The labels in this machine's cache; of its processes one copies them there."""
    team, packed = context.team, f"masks packed {context.team.machine}"
    if team.local_rank:
        team.hear(packed, check=context.stop.check)
    labels = pack_masks(store, name=digest_json([context.run.store.url, context.key]), check=context.stop.check)
    if not team.local_rank:
        team.tell(packed)
    return labels

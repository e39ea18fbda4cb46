"""`train`: the epochs of one cycle on the mask loss, the vMF loss joining in every M epochs (section 3.2, 3.4)."""

from pathlib import Path

from cyborgs.augmentation.dataset import Batch, Regions, ViewDataset
from cyborgs.training.pretraining import Metrics
from schemas.digests import digest_json
from stages.build import build_augmentation, build_contrast, build_network, build_pretraining, joins_vmf
from stages.checkpoint import read_checkpoint, write_checkpoint
from stages.context import Context, Outcome
from stages.epochs import count_steps, run_epochs
from storage import layout
from storage.mask_cache import PackedMasks, pack_masks


def train(context: Context) -> Outcome | None:
    """Write the state at the end of the cycle."""
    config = context.config
    photographs, reader = context.photographs()
    masks = context.input("masks")
    labels = _pack(context, masks.path(layout.MASKS))
    per_epoch = count_steps(context, len(photographs))
    pretraining = build_pretraining(
        config,
        build_network(config),
        schedule_epochs=context.step.schedule_epochs,
        steps_per_epoch=per_epoch,
        device=context.device,
        world=context.world,
    )
    read_checkpoint(context.input("checkpoint"), pretraining, step=context.step.first_epoch * per_epoch)
    contrast = build_contrast(config)

    def train_step(batch: Batch, epoch: int) -> Metrics:
        return pretraining.train_step(batch, contrast, with_vmf=joins_vmf(config, epoch))

    def pairs(epoch: int) -> int:
        return 2 if contrast.vmf_update == "separate" and joins_vmf(config, epoch) else 1

    dataset = ViewDataset(
        reader,
        build_augmentation(config),
        seed=config.seed,
        regions=Regions(
            labels=labels,
            grid=config.network.region_grid,
            count=config.train.regions,
            sampling=config.train.region_sampling,
        ),
    )
    metrics = run_epochs(context, pretraining, dataset, rows=len(photographs), pairs=pairs, train_step=train_step)
    if context.team.local_rank == 0:
        labels.remove()
    if not context.team.leads:
        return None
    content = write_checkpoint(pretraining, context.write)
    figures = {name: round(metrics[name], 4) for name in ("mask_loss", "projection_std", "orphans")}
    return Outcome(content, {"epochs": context.step.last_epoch, **figures})


def _pack(context: Context, store: Path) -> PackedMasks:
    """The labels in this machine's cache; of its processes one copies them there."""
    team, packed = context.team, f"masks packed {context.team.machine}"
    if team.local_rank:
        team.hear(packed, check=context.stop.check)
    labels = pack_masks(store, name=digest_json([context.run.store.url, context.key]), check=context.stop.check)
    if not team.local_rank:
        team.tell(packed)
    return labels

"""What a run will cost, before it starts: times and sizes per kind of stage, by the formulae of docs/scaling.md."""

import math
from dataclasses import dataclass

from schemas.architectures import layer_channels, layer_stride
from schemas.config import RunConfig
from schemas.plan import Step, checkpoints_kept, plan
from schemas.stages import STAGE_NAMES, StageName

PARAMETERS: dict[str, int] = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "resnext50_32x4d": 22_979_904,
    "resnext101_32x8d": 86_742_336,
    "resnext101_64x4d": 81_406_272,
    "wide_resnet50_2": 66_834_240,
    "wide_resnet101_2": 124_837_696,
}
"""Of the backbones without their classifier."""
FORWARDS_PER_SAMPLE = 8
"""A training sample in forward passes: two views, forward and backward (three forwards), and two of the target."""
DECODE_SECONDS = 0.005
"""For one core to read and decode a photograph of half a megapixel."""
ROW_BYTES = 100
"""Of the images table on storage, a photograph."""
ROW_MEMORY = 1_350
"""Of the images table in memory, a photograph and process."""
BYTES_PER_CELL = 0.6
"""Of a mask store: a label of a cell, compressed."""
BYTES_PER_PIXEL = 0.12
"""Of a mask store whose labels a CRF refined: a label of a pixel, compressed."""
CRF_SECONDS = 9.0
"""For one core to refine a photograph of 640 x 480 with 60 labels in it, in 10 iterations."""
_ASPECT = 0.75


@dataclass(frozen=True)
class Cost:
    """Of all stages of one kind together."""

    stage: StageName
    count: int
    photographs: int
    """How many are read, over all epochs."""
    seconds: float
    bytes: int
    """On storage, when the run has ended."""


def storage_need(config: RunConfig, *, images: int, steps: list[Step]) -> int:
    """Bytes that steps still to be done will put on storage at most: what stays, and what is written on the way.

    On the way are a checkpoint that a stage starts from and placement.keep_checkpoints lets go afterwards, and a
    partial state while the next is written beside it.
    """
    stays = sum(storage_bytes(config, step, images=images) for step in steps)
    trains = any(step.stage in ("warm-up", "train") for step in steps)
    return stays + (3 * checkpoint_bytes(config) if trains else 0)


def storage_bytes(config: RunConfig, step: Step, *, images: int) -> int:
    """What a step leaves on storage when the run has ended."""
    if step.stage == "index-images":
        return images * ROW_BYTES
    if step.stage == "bootstrap-masks":
        return int(images * cells(config) * (BYTES_PER_PIXEL if config.masks.crf else BYTES_PER_CELL))
    if step.stage == "evaluate":
        return 0
    kept = checkpoint_bytes(config) if step.name in checkpoints_kept(config) else 0
    inside = [epoch for epoch in config.schedule.checkpoint_epochs if step.first_epoch < epoch <= step.last_epoch]
    return kept + len(inside) * 4 * PARAMETERS[config.network.architecture]


def estimate(config: RunConfig, *, images: int, gpus: int, seconds_per_image: float | None, cores: int) -> list[Cost]:
    """Cost of every kind of stage.

    Args:
        seconds_per_image: of one GPU for one training sample: both views of a photograph, forward and backward. None
            where it is not known: then no time is, either.
        cores: that decode photographs for `index-images`.
    """
    steps = plan(config)
    each = seconds_per_image if seconds_per_image is not None else math.nan
    costs = []
    for stage in STAGE_NAMES:
        of_stage = [step for step in steps if step.stage == stage]
        epochs = sum(step.last_epoch - step.first_epoch for step in of_stage)
        read = {
            "index-images": images,
            "warm-up": epochs * images,
            "bootstrap-masks": len(of_stage) * images,
            "train": epochs * images,
            "evaluate": len(of_stage) * min(images, config.evaluate.images),
        }[stage]
        seconds = {
            "index-images": images * DECODE_SECONDS / cores,
            "warm-up": read * each / gpus,
            "bootstrap-masks": read * (each * bootstrap_ratio(config) + crf_seconds(config)) / gpus,
            "train": _pairs(config) * images * each / gpus,
            "evaluate": read * each,
        }[stage]
        size = sum(storage_bytes(config, step, images=images) for step in of_stage)
        costs.append(Cost(stage, len(of_stage), read, seconds, size))
    return costs


def cells(config: RunConfig) -> int:
    """Labels of a photograph of 4:3 whose longer side is masks.max_side: cells of the feature grid, or pixels."""
    side = config.masks.max_side / (1 if config.masks.crf else layer_stride(config.masks.layer[0]))
    return int(side * side * _ASPECT)


def bootstrap_ratio(config: RunConfig) -> float:
    """Forward pass of a photograph up to the clustered layer, in training samples.

    The four groups of layers of a ResNet cost about the same each.
    """
    pixels = _ASPECT * config.masks.max_side**2 / config.augmentation.crop_size**2
    depth = max(int(layer.removeprefix("layer")[0]) for layer in config.masks.layer) / 4
    return pixels * depth / FORWARDS_PER_SAMPLE


def crf_seconds(config: RunConfig) -> float:
    """Of one process to refine a photograph of 4:3; in proportion to its pixels and the iterations."""
    masks = config.masks
    if not masks.crf:
        return 0.0
    return CRF_SECONDS * (masks.max_side / 640) ** 2 * masks.crf_iterations / 10


def checkpoint_bytes(config: RunConfig) -> int:
    """Online and target network and the optimiser's state, in float32."""
    network = config.network
    hidden, dim = network.projector_hidden, network.projection_dim
    moments = 2 if config.optimization.optimizer == "adamw" else 1
    channels = sum(layer_channels(network.architecture, layer) for layer in network.contrast_layers)
    backbone, projector, predictor = (
        PARAMETERS[network.architecture],
        _head(channels, hidden, dim),
        _head(dim, hidden, dim),
    )
    return 4 * ((1 + moments) * (backbone + projector + predictor) + backbone + projector)


def _head(inputs: int, hidden: int, outputs: int) -> int:
    """Parameters of BYOL's MLP: Linear, batch-norm, Linear without bias."""
    return inputs * hidden + 3 * hidden + hidden * outputs


def _pairs(config: RunConfig) -> int:
    """Pairs of views of a photograph over all epochs of training: one, and one more for a vMF update of its own."""
    every, weight = config.train.vmf_every_epochs, config.train.vmf_weight
    epochs = range(config.schedule.warmup_epochs, config.schedule.epochs)
    if not every or not weight or config.train.vmf_update == "joint":
        return len(epochs)
    return len(epochs) + sum(epoch % every == 0 for epoch in epochs)


def readable_size(count: float) -> str:
    """Such as `640 kB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError

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
BYTES_PER_FIXED_PIXEL = 0.02
"""Of a mask store whose regions are colour's, boxes or a person's: a label of a pixel, compressed."""
GRID_ROW_BYTES = 30
"""Of a mask store of grids: what a photograph takes beside a byte for each cell."""
CRF_SECONDS = 9.0
"""For one core to refine a photograph of 640 x 480 with 60 labels in it, in 10 iterations."""
SOURCE_SECONDS: dict[str, float] = {"felzenszwalb": 0.5, "selective-search": 2.0, "files": 0.03}
"""For one core to make the regions of a photograph of 640 x 480, or to read them; grids take no time."""
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
        return int(images * mask_bytes(config))
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
    each = seconds_per_image if seconds_per_image is not None else math.nan
    planned, costs = plan(config), []
    for stage in STAGE_NAMES:
        steps = [step for step in planned if step.stage == stage]
        if not steps:
            continue  # of masks, with a method that needs none
        epochs = sum(step.last_epoch - step.first_epoch for step in steps)
        read = {
            "index-images": images,
            "warm-up": epochs * images,
            "bootstrap-masks": len(steps) * images,
            "train": epochs * images,
            "evaluate": len(steps) * min(images, config.evaluate.images),
        }[stage]
        seconds = sum(
            estimate_step(config, step, images=images, gpus=gpus, seconds_per_image=each, cores=cores) for step in steps
        )
        size = sum(storage_bytes(config, step, images=images) for step in steps)
        costs.append(Cost(stage, len(steps), read, seconds, size))
    return costs


def estimate_step(
    config: RunConfig, step: Step, *, images: int, gpus: int, seconds_per_image: float, cores: int
) -> float:
    """Seconds of one step; docs/scaling.md has the formulae."""
    if step.stage == "index-images":
        return images * DECODE_SECONDS / cores
    if step.stage == "bootstrap-masks":
        return images * _mask_seconds(config, seconds_per_image) / gpus
    if step.stage == "evaluate":
        return min(images, config.evaluate.images) * seconds_per_image
    return _pairs(config, step) * images * seconds_per_image / gpus


def _mask_seconds(config: RunConfig, seconds_per_image: float) -> float:
    """Of one process for the masks of a photograph of 4:3."""
    masks = config.masks
    if masks.source == "bootstrap":
        return seconds_per_image * bootstrap_ratio(config) + crf_seconds(config)
    return SOURCE_SECONDS.get(masks.source, 0.0) * (masks.max_side / 640) ** 2


def cells(config: RunConfig) -> int:
    """Labels of a photograph of 4:3 whose longer side is masks.max_side: cells of the feature grid or of the source's
    own, or pixels; 0 of a method without masks.
    """
    masks = config.masks
    if config.train.method != "cyborgs":
        return 0
    if masks.source in ("whole-image", "grid"):
        return masks.grid_cells**2 if masks.source == "grid" else 1
    pixels = masks.crf or masks.source != "bootstrap"
    side = masks.max_side / (1 if pixels else layer_stride(masks.layer[0]))
    return int(side * side * _ASPECT)


def mask_bytes(config: RunConfig) -> float:
    """Of a photograph's masks on storage."""
    source = config.masks.source
    if source in ("whole-image", "grid"):
        return GRID_ROW_BYTES + cells(config)
    if source != "bootstrap":
        return cells(config) * BYTES_PER_FIXED_PIXEL
    return cells(config) * (BYTES_PER_PIXEL if config.masks.crf else BYTES_PER_CELL)


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
    """Online and target network, the optimiser's state, and queues of keys, in float32."""
    network, method = config.network, config.train.method
    hidden, dim = network.projector_hidden, network.projection_dim
    layers = network.contrast_layers if method == "cyborgs" else ("layer4",)
    channels = sum(layer_channels(network.architecture, layer) for layer in layers)
    projectors, queues = (2 if method == "densecl" else 1), {"moco": 1, "densecl": 2}.get(method, 0)
    encoder = PARAMETERS[network.architecture] + projectors * _head(channels, hidden, dim)
    predictor = _head(dim, hidden, dim) if method in ("cyborgs", "byol") else 0
    target = encoder if method != "simclr" else 0
    moments = 2 if config.optimization.optimizer == "adamw" else 1
    return 4 * ((1 + moments) * (encoder + predictor) + target + queues * config.train.queue * dim)


def _head(inputs: int, hidden: int, outputs: int) -> int:
    """Parameters of BYOL's MLP: Linear, batch-norm, Linear without bias; others differ by next to nothing."""
    return inputs * hidden + 3 * hidden + hidden * outputs


def _pairs(config: RunConfig, step: Step) -> int:
    """Pairs of views of a photograph over a step's epochs: and in training one more for a vMF update of its own."""
    every, weight = config.train.vmf_every_epochs, config.train.vmf_weight
    epochs = range(step.first_epoch, step.last_epoch)
    joined = step.stage == "train" and config.train.method == "cyborgs" and every and weight
    if not joined or config.train.vmf_update == "joint":
        return len(epochs)
    return len(epochs) + sum(epoch % every == 0 for epoch in epochs)


def batch_shortage(photographs: int, batch_size: int) -> str | None:
    """Why a run of so many photographs cannot start, and what to do; None where it can."""
    if photographs >= batch_size:
        return None
    # A power of two below leaves room for a photograph or two that turn out to be broken.
    smaller = f" or --set optimization.batch_size={1 << photographs.bit_length() - 1}" if photographs > 1 else ""
    return f"{photographs} photographs do not fill a batch of {batch_size}: add photographs{smaller}"


def readable_size(count: float) -> str:
    """Such as `640 kB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError

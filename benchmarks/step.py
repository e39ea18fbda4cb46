"""`step`: a training step on a batch that is ready, over the bare arithmetic of its backbones and heads."""

from torch import Tensor

from benchmarks.arithmetic import BareStep
from benchmarks.figure import Bench, Figure
from benchmarks.training_steps import heads_of, measure_steps
from cyborgs.networks.backbone import Backbone
from cyborgs.training.pretraining import Pretraining
from schemas.config import RunConfig
from stages.build import build_contrast

TARGET = 1.15


def measure(bench: Bench) -> list[Figure]:
    """For both networks, in every precision."""
    return measure_steps(bench, "step", target=TARGET, take=take, bare=bare)


def take(pretraining: Pretraining, batch: dict[str, Tensor], config: RunConfig) -> object:
    """A step on the mask loss, as most epochs take it."""
    return pretraining.train_step(batch, build_contrast(config), with_vmf=False)


def bare(config: RunConfig) -> BareStep:
    """All layers and the heads."""
    network = config.network
    backbone = Backbone(network.architecture, seed=0)
    channels = sum(backbone.channels(layer) for layer in network.contrast_layers)
    return BareStep(
        network.architecture,
        layer="layer4",
        images=config.optimization.batch_size,
        size=config.augmentation.crop_size,
        heads=heads_of(config, channels),
        bfloat16=config.numerics.precision == "bfloat16",
    )

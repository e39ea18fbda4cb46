"""`warm-up step`: a step on the vMF loss, over the bare arithmetic of the layers up to the clustered one."""

from torch import Tensor

from benchmarks.arithmetic import BareStep
from benchmarks.figure import Bench, Figure
from benchmarks.training_steps import measure_steps
from cyborgs.training.pretraining import Pretraining
from schemas.config import RunConfig

TARGET = 1.30


def measure(bench: Bench) -> list[Figure]:
    """For both networks, in every precision; K = 8, the paper's."""
    return measure_steps(bench, "warm-up step", target=TARGET, take=take, bare=bare)


def take(pretraining: Pretraining, batch: dict[str, Tensor], _: RunConfig) -> object:
    """A step of warm-up."""
    return pretraining.warm_up_step(batch)


def bare(config: RunConfig) -> BareStep:
    """The layers up to the clustered one."""
    (layer,) = config.masks.layer
    return BareStep(
        config.network.architecture,
        layer=layer,
        images=config.optimization.batch_size,
        size=config.augmentation.crop_size,
        heads=None,
        bfloat16=config.numerics.precision == "bfloat16",
    )

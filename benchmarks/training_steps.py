"""A step as the stages `warm-up` and `train` take it, beside its bare arithmetic.

Axes: B images, S the crop side, G the region grid, R sampled regions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.arithmetic import BareStep, Heads
from benchmarks.counting import count_flops, covered
from benchmarks.figure import Bench, Figure
from benchmarks.timing import Contender, Summary, in_turns, quotients
from cyborgs.training.pretraining import Pretraining
from schemas.config import RunConfig
from schemas.loading import load_config
from stages.build import build_network, build_pretraining
from stages.device import apply_numerics

_PRESENT = 40
"""Labels of a generated label grid, about what a crop of COCO shows."""


@dataclass(frozen=True)
class Setting:
    """A config that is shipped, its network, and how often a pair is timed."""

    config: str
    images: int
    rounds: int

    def load(self, *, precision: str, threads: int) -> RunConfig:
        """As a run on this machine alone has it."""
        return load_config(
            self.config,
            [f"optimization.batch_size={self.images}", "numerics.world_size=1", f"numerics.precision={precision}",
             f"numerics.threads={threads}", "placement.device=cpu"],
        )  # fmt: skip


def settings(bench: Bench) -> tuple[Setting, ...]:
    """ResNet-50 at 224 px as in the paper, ResNet-18 at 96 px as in configs/small.yaml."""
    if bench.quick:
        return (Setting("small", images=16, rounds=3),)
    return Setting("coco", images=16, rounds=5), Setting("small", images=64, rounds=7)


def measure_steps(
    bench: Bench,
    name: str,
    *,
    target: float,
    take: Callable[[Pretraining, dict[str, Tensor], RunConfig], object],
    bare: Callable[[RunConfig], BareStep],
) -> list[Figure]:
    """Time a step against its bare arithmetic, for every setting and precision.

    Args:
        take: takes one step on a batch.
        bare: the arithmetic that such a step contains.
    """
    figures = []
    for setting in settings(bench):
        for precision in bench.precisions:
            config = setting.load(precision=precision, threads=bench.threads)
            figures.append(_measure(name, setting, config, target=target, take=take, bare=bare(config)))
    return figures


def _measure(
    name: str,
    setting: Setting,
    config: RunConfig,
    *,
    target: float,
    take: Callable[[Pretraining, dict[str, Tensor], RunConfig], object],
    bare: BareStep,
) -> Figure:
    apply_numerics(config)
    pretraining = make_pretraining(config)
    batch = make_batch(config, seed=0)
    # The floor is not bound to kernels that give the same result twice.
    bare_flops = count_flops(bare)
    bare.forget()
    step_flops = count_flops(lambda: take(pretraining, batch, config))
    covered(step_flops, bare_flops)
    seconds = in_turns(
        [
            Contender(lambda: take(pretraining, batch, config), before=lambda: apply_numerics(config)),
            Contender(bare, before=lambda: _free(bare)),
        ],
        rounds=setting.rounds,
    )
    ratio = Summary.of(quotients(seconds[0], seconds[1]))
    images, size = config.optimization.batch_size, config.augmentation.crop_size
    return Figure(
        f"{name} {config.network.architecture} {size} px {config.numerics.precision}",
        ratio.median,
        target,
        "lower",
        "x",
        {"images": images, "views": 2 * images, "step GFLOP": step_flops / 1e9, "bare GFLOP": bare_flops / 1e9},
        (ratio.low, ratio.high),
        setting.rounds,
        {"step s": Summary.of(seconds[0]).median, "bare s": Summary.of(seconds[1]).median},
        f"configs/{setting.config}.yaml, batch {images}",
    )


def _free(bare: BareStep) -> None:
    torch.use_deterministic_algorithms(False)
    bare.forget()


def make_pretraining(config: RunConfig) -> Pretraining:
    """As the stages build it; schedules over a thousand steps."""
    return build_pretraining(
        config, build_network(config), schedule_epochs=10, steps_per_epoch=100, device=torch.device("cpu")
    )


def make_batch(config: RunConfig, *, seed: int) -> dict[str, Tensor]:
    """A batch as the loader hands it over: views of noise, crops that overlap, coarse label grids."""
    random = np.random.default_rng(seed)
    images, size = config.optimization.batch_size, config.augmentation.crop_size
    grid, regions = config.network.region_grid, config.train.regions
    corners = random.uniform(0, 0.4, (images, 2, 2))
    sides = random.uniform(0.3, 0.6, (images, 2, 2))
    flips = random.integers(0, 2, (images, 2, 1))
    labels = random.integers(0, _PRESENT, (images, 2, grid, grid), dtype=np.uint8)
    sampled = [[random.choice(np.unique(view), regions) for view in image] for image in labels]
    return {
        "row": torch.arange(images),
        "views": torch.from_numpy(random.integers(0, 256, (images, 2, 3, size, size), dtype=np.uint8)),
        "boxes": torch.from_numpy(np.concatenate([corners, sides, flips], axis=2)),
        "labels": torch.from_numpy(labels),
        "regions": torch.from_numpy(np.array(sampled, np.int64)),
    }


def heads_of(config: RunConfig, channels: int) -> Heads:
    """The heads that the mask loss needs."""
    network = config.network
    vectors = config.optimization.batch_size * config.train.regions
    return Heads(vectors, channels, network.projector_hidden, network.projection_dim)

"""Steps that are to come out alike however their batch is shared out; also a program for torchrun to start.

    torchrun --nproc-per-node 2 whole_steps.py FOLDER

Each process takes its share of the batches and leaves FOLDER/<rank>.safetensors.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from cyborgs.distributed import ALONE, World
from cyborgs.networks.siamese import SiameseNetwork
from cyborgs.training.pretraining import Metrics, Pretraining
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from tests.cyborgs.sharing import lars, without_batch_norm

BATCH, SIZE, GRID, REGIONS, STEPS = 32, 64, 4, 4, 3

_OPTIMIZATION = Optimization(
    learning_rate=1.0,
    lr_warmup_steps=0,
    lr_schedule="step",
    lr_milestones=(),
    lr_decay=0.1,
    ema_momentum=0.9,
    steps=STEPS,
)
_VMF = VmfLoss(
    layers=("layer2.0",),
    clusters=(4, 9),
    concentration=10.0,
    distance="vmf",
    branches="symmetric",
    correspondence="geometric",
    iterations=5,
    points_per_cluster=64,
)
_JOINT = Contrast(temperature=0.1, vmf_weight=0.5, vmf_update="joint")
_SEPARATE = Contrast(temperature=0.1, vmf_weight=0.5, vmf_update="separate")


def take_steps(*, world: World = ALONE, accumulation: int = 1) -> dict[str, Tensor]:
    """A warm-up step, one of both losses together, one of both apart; full learning rate, in float64.

    Returns:
        Every metric of every step, and by how much every weight has moved in all.
    """
    pretraining = _pretraining(world, accumulation)
    before = {name: weight.detach().clone() for name, weight in pretraining.network.named_parameters()}
    share = BATCH // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        batch = {name: values[mine] for name, values in make_batch(step).items()}
        metrics: Metrics
        if step == 0:
            metrics = pretraining.warm_up_step(batch)
        else:
            metrics = pretraining.train_step(batch, _JOINT if step == 1 else _SEPARATE, with_vmf=True)
        found |= {f"step {step} {name}": torch.as_tensor(value).double() for name, value in metrics.items()}
    moved = {f"moved {n}": w.detach() - before[n] for n, w in pretraining.network.named_parameters()}
    return found | moved


def _pretraining(world: World, accumulation: int) -> Pretraining:
    network = SiameseNetwork(
        architecture="resnet18",
        contrast_layers=("layer2", "layer4"),
        region_grid=GRID,
        downsample="area",
        hidden=32,
        dim=16,
        seed=0,
    )
    without_batch_norm(network)
    network.double()
    optimizer = lars(network)
    return Pretraining(
        network, optimizer, optimization=_OPTIMIZATION, vmf=_VMF, seed=0, accumulation=accumulation, world=world
    )


def make_batch(step: int) -> dict[str, Tensor]:
    """Unequal images: some overlap, some do not, so shares differ in matches and in positives."""
    random = np.random.default_rng(step)
    corner = random.uniform(0, 0.5, (BATCH, 4, 2))
    boxes = np.concatenate(
        [corner, random.uniform(0.2, 0.5, (BATCH, 4, 2)), random.integers(0, 2, (BATCH, 4, 1))], axis=2
    )
    coarse = torch.from_numpy(random.integers(0, 256, (BATCH * 4, 3, 8, 8), dtype=np.uint8))
    labels = random.integers(0, 5, (BATCH, 2, GRID, GRID), dtype=np.uint8)
    regions = [[random.choice(np.unique(grid), REGIONS) for grid in image] for image in labels]
    return {
        "row": torch.from_numpy(random.permutation(100)[:BATCH]),
        "views": nn.functional.interpolate(coarse, SIZE).unflatten(0, (BATCH, 4)),
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(labels),
        "regions": torch.from_numpy(np.array(regions, dtype=np.int64)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mine = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    save_file(take_steps(world=mine), Path(sys.argv[1]) / f"{mine.rank}.safetensors")
    dist.destroy_process_group()

"""Steps of the baselines that are to come out alike in one process and in two; also a program for torchrun to start.

    torchrun --nproc-per-node 2 whole_steps.py FOLDER

Each process takes its share of the batches and leaves FOLDER/<rank>.safetensors, names opening with `<method>: `.
"""

import os
import sys
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from cyborgs.baselines.network import ImageNetwork, Method
from cyborgs.baselines.pretraining import ImageContrast, ImagePretraining
from cyborgs.distributed import ALONE, World
from cyborgs.training.settings import Optimization
from tests.cyborgs.sharing import lars, without_batch_norm

METHODS: tuple[Method, ...] = get_args(Method)
BATCH, SIZE, STEPS = 8, 32, 3


def take_steps(method: Method, *, world: World = ALONE) -> dict[str, Tensor]:
    """Three steps at full learning rate, in float64.

    Returns:
        Every metric of every step, by how much every weight has moved in all, and the queues, as moved from none.
    """
    pretraining = _pretraining(method, world)
    network = pretraining.network
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    share = BATCH // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        metrics = pretraining.train_step({name: values[mine] for name, values in make_batch(step).items()})
        found |= {f"step {step} {name}": torch.as_tensor(value).double() for name, value in metrics.items()}
    found |= {f"moved {name}": weight.detach() - before[name] for name, weight in network.named_parameters()}
    return found | {f"moved {name}": rows.clone() for name, rows in network.named_buffers() if name.endswith("rows")}


def _pretraining(method: Method, world: World) -> ImagePretraining:
    network = ImageNetwork(method, architecture="resnet18", hidden=32, dim=16, queue=20, seed=0)
    without_batch_norm(network)
    network.double()
    optimizer = lars(network)
    optimization = Optimization(
        learning_rate=1.0, lr_warmup_steps=0, lr_schedule="step", lr_milestones=(), lr_decay=0.1,
        ema_momentum=0.9, steps=STEPS,
    )  # fmt: skip
    return ImagePretraining(
        network, optimizer, optimization=optimization, contrast=ImageContrast(0.2, 0.5), world=world
    )


def make_batch(step: int) -> dict[str, Tensor]:
    """Images that are all different, two views of each."""
    generator = torch.Generator().manual_seed(step)
    coarse = torch.randint(0, 256, (BATCH * 2, 3, 8, 8), generator=generator).to(torch.uint8)
    views = nn.functional.interpolate(coarse, SIZE).unflatten(0, (BATCH, 2))
    return {"row": torch.arange(BATCH), "views": views}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    own = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    taken = {f"{method}: {name}": t for method in METHODS for name, t in take_steps(method, world=own).items()}
    save_file(taken, Path(sys.argv[1]) / f"{own.rank}.safetensors")
    dist.destroy_process_group()

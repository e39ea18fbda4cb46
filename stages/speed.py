"""How long a training step takes on this machine: a few steps on made-up views, for estimates."""

import statistics
import time

import torch

from cyborgs.baselines.pretraining import ImagePretraining
from cyborgs.training.pretraining import Pretraining
from schemas.config import RunConfig
from stages.build import build_contrast, start_state
from stages.device import choose_device, limited_threads

_STEPS = 4


def seconds_per_image(config: RunConfig) -> float:
    """Seconds of one process per photograph, both views forward and backward; the median of a few steps.

    Args:
        config: with its numerics pinned.
    """
    device = choose_device(config.placement.device)
    threads = config.numerics.threads
    size, batch_size = config.augmentation.crop_size, config.optimization.batch_size
    batch_size = max(2, batch_size // config.numerics.world_size)
    generator = torch.Generator().manual_seed(0)
    grid, regions = config.network.region_grid, config.train.regions
    batch = {
        "row": torch.arange(batch_size),
        "views": torch.randint(0, 256, (batch_size, 2, 3, size, size), generator=generator).to(torch.uint8).to(device),
        "boxes": torch.tensor([[0.0, 0, 1, 1, 0]], dtype=torch.float64).expand(batch_size, 2, 5).to(device),
        "labels": torch.randint(0, 8, (batch_size, 2, grid, grid), generator=generator).to(torch.uint8).to(device),
        "regions": torch.randint(0, 8, (batch_size, 2, regions), generator=generator).to(device),
    }
    with limited_threads(threads):
        state = start_state(config, schedule_epochs=1, steps_per_epoch=100, device=device)
        taken = []
        for _ in range(_STEPS):
            started = time.perf_counter()
            if isinstance(state, ImagePretraining):
                loss = state.train_step(batch)["loss"]
            else:
                assert isinstance(state, Pretraining)
                loss = state.train_step(batch, build_contrast(config), with_vmf=False)["loss"]
            float(loss)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:]) / batch_size

"""Batch-norm statistics of the weights as they are at the end (Wu and Johnson 2021; Detectron2's PRECISE_BN)."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cyborgs.distributed import ALONE, World
from cyborgs.random_streams import stream_seed

Batch = TypeVar("Batch")


@torch.no_grad()
def refresh_statistics(
    network: nn.Module,
    batches: Iterable[Batch],
    losses: Callable[[nn.Module, Batch], dict[str, Tensor]],
    *,
    seed: int,
    bfloat16: bool,
    world: World = ALONE,
) -> None:
    """Put the plain mean over some batches into every batch-norm; weights stay.

    Args:
        losses: runs the network as training does.
        seed: of what training draws, such as regions.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momentum = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean
    for number, batch in enumerate(batches):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(stream_seed("statistics", seed, number, world.rank))
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                losses(network, batch)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before

"""What the fine-tuning protocols share: a device, a network of their own, and what a result is made of."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from cyborgs.distributed import World
from cyborgs.evaluation.frozen import Samples, read_ahead
from cyborgs.networks.backbone import Backbone
from cyborgs.random_streams import stream_seed
from schemas.fine_tuning import FineTuningSettings
from stages.attempt import Attempt
from stages.device import choose_device
from stages.progress import Progress
from stages.readers.samples import Split, random_share
from stages.weights import Weights

Sample = TypeVar("Sample")
PLACEMENT = ("device", "threads", "workers", "save_minutes")
"""Settings that change no figure."""


def meet(settings: FineTuningSettings, attempt: Attempt) -> tuple[torch.device, World]:
    """The device of this process, and the processes that it shares a step with."""
    device = choose_device(settings.device, attempt.team, setting="device")
    return device, attempt.team.world(device)


def build(weights: Weights, make: Callable[[Backbone], nn.Module], seed: int) -> nn.Module:
    """A network around a copy of the backbone; what is new in it is drawn by `seed`."""
    backbone = copy.deepcopy(weights.backbone).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("transfer", seed))
        return make(backbone)


def rows_learnt_from(count: int, settings: FineTuningSettings, classes: Sequence[int] | None = None) -> list[int]:
    """The rows of a split whose labels are used."""
    return random_share(count, settings.labels, seed=settings.seed, classes=classes)


def identity(weights: Weights, train: Split[Any], settings: FineTuningSettings) -> list[Any]:
    """All that the fine-tuned network depends on; files by size and time, since their contents may be large."""
    files = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in train.files]
    return [weights.used.digest, settings.model_dump(mode="json", exclude=set(PLACEMENT)), files]


def shared(
    samples: Samples[Sample], world: World, attempt: Attempt, *, threads: int | None
) -> Iterator[tuple[int, Sample]]:
    """This process' share of what is measured, with its rows, read ahead; somebody may ask to stop between two."""
    rows = range(world.rank, len(samples), world.size)
    with Progress(
        "measuring",
        total=len(samples),
        unit="photograph",
        tell=attempt.moving if attempt.team.leads else None,
    ) as progress:
        read = read_ahead(samples, rows, threads=threads)
        # All look at once: who stops alone would leave the others waiting for what it has found.
        for start in range(0, len(samples), world.size):
            if attempt.team.any(attempt.stop.asked)[0]:
                attempt.stop.ask()
                attempt.stop.check()
            row = start + world.rank
            if row < len(samples):
                yield row, next(read)
            progress.advance(min(world.size, len(samples) - start))

"""Fine-tuning by steps: all state that it moves, and a step that is a function of that state and its number alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Optimizer

from cyborgs.distributed import ALONE, World
from cyborgs.random_streams import stream_seed
from cyborgs.training.resumable import ResumableTraining


@dataclass(frozen=True)
class Schedule:
    """SGD's settings over so many steps."""

    steps: int
    learning_rate: float
    """Of every part but the head."""
    head_factor: float
    """Times that of the head."""
    momentum: float
    weight_decay: float
    norm_weight_decay: float
    """Of batch-norms, which Detectron2 has at 0."""
    kind: Literal["steps", "poly", "cosine"]
    milestones: tuple[int, ...]
    """Steps at which the rate falls to `decay` of itself."""
    decay: float
    power: float
    """Of "poly": (1 - step / steps) ** power, not below `floor`."""
    floor: float
    warmup_steps: int
    warmup_factor: float
    """Share of the rate at the first step, growing linearly (Detectron2)."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if self.kind == "steps":
            rate = self.learning_rate * float(self.decay ** sum(step >= each for each in self.milestones))
        elif self.kind == "poly":
            share = (1 - step / self.steps) ** self.power
            rate = (self.learning_rate - self.floor) * float(share) + self.floor
        else:
            rate = self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2
        if step < self.warmup_steps:
            grown = step / self.warmup_steps
            rate *= self.warmup_factor * (1 - grown) + grown
        return rate


class FineTuning(ResumableTraining):
    """A network, its optimiser, and the step that comes next.

    What a step draws (anchors, regions, sizes) comes from a stream of its own, named by seed, step and rank.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        is_head: Callable[[str], bool],
        seed: int,
        bfloat16: bool,
        world: World = ALONE,
    ) -> None:
        self.network = network
        self._schedule, self._seed, self._bfloat16, self._world = schedule, seed, bfloat16, world
        norms = {
            id(parameter)
            for module in network.modules()
            if isinstance(module, _BatchNorm)
            for parameter in module.parameters()
        }
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self._trained():
            groups.setdefault((is_head(name), id(parameter) in norms), []).append(parameter)
        self.optimizer: Optimizer = SGD(
            [
                {
                    "params": parameters,
                    "factor": schedule.head_factor if head else 1.0,
                    "weight_decay": schedule.norm_weight_decay if norm else schedule.weight_decay,
                }
                for (head, norm), parameters in groups.items()
            ],
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
        )

    def take(self, losses: Callable[[nn.Module], dict[str, Tensor]]) -> dict[str, float]:
        """One step down the sum of some losses.

        Args:
            losses: of the network in training, on this process' share of the batch; by name.

        Returns:
            The mean over processes of each loss, and their sum as `loss`.

        Raises:
            FloatingPointError: a loss is not finite; nothing has moved.
        """
        self.network.train()
        rate = self._schedule.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        device = next(self.network.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(stream_seed("fine-tuning", self._seed, self.step, self._world.rank))
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
                found = losses(self.network)
        total = torch.stack([each.float() for each in found.values()]).sum()
        figures = self._world.mean({"loss": total.detach(), **{name: each.detach() for name, each in found.items()}})
        numbers = {name: float(value) for name, value in figures.items()}
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            raise FloatingPointError(f"{wrong[-1]} is not finite")
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self._world.average_gradients(parameter for _, parameter in self._trained())
        self.optimizer.step()
        self.step += 1
        return {**numbers, "learning_rate": rate}

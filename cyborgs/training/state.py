"""What every pretraining method moves and how a step moves it: network, optimiser, schedules, the average.

Axes: B images, V views, S the crop side.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cyborgs.augmentation.pixels import normalise
from cyborgs.distributed import ALONE, World
from cyborgs.optimization.ema import update_average
from cyborgs.optimization.optimizers import set_learning_rate
from cyborgs.optimization.schedules import ema_momentum, learning_rate
from cyborgs.training.resumable import ResumableTraining
from cyborgs.training.settings import Optimization

Features = dict[str, Tensor]
Metrics = dict[str, Tensor | float]


class TrainingState(ResumableTraining):
    """Network, optimiser and step counter. A subclass says what a step's loss is.

    A step's batch is this process' share of the global batch, taken in `accumulation` micro-batches.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        *,
        optimization: Optimization,
        bfloat16: bool = False,
        accumulation: int = 1,
        world: World = ALONE,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self._optimization, self._bfloat16 = optimization, bfloat16
        self._accumulation, self._world = accumulation, world

    def _begin(self) -> Metrics:
        self.network.train()
        settings = self._optimization
        rate = learning_rate(
            self.step,
            peak=settings.learning_rate,
            steps=settings.steps,
            warmup_steps=settings.lr_warmup_steps,
            schedule=settings.lr_schedule,
            milestones=settings.lr_milestones,
            decay=settings.lr_decay,
        )
        set_learning_rate(self.optimizer, rate)
        return {"learning_rate": rate, "ema_momentum": self._momentum()}

    def _momentum(self) -> float:
        if self._optimization.ema_schedule == "constant":
            return self._optimization.ema_momentum
        return ema_momentum(self.step, start=self._optimization.ema_momentum, steps=self._optimization.steps)

    def _update(self) -> None:
        """Move the weights by the gradients that were summed up, and the target after them."""
        self._world.average_gradients(weight for _, weight in self._trained())
        self.optimizer.step()
        online, target = self.network.online, self.network.target
        assert isinstance(online, nn.Module)
        if isinstance(target, nn.Module):  # SimCLR has none
            update_average(target, online, self._momentum())

    def _descend(self, parts: list[slice], take: Callable[[slice], dict[str, Tensor]]) -> Metrics:
        """Gradients of every part, then the update; the mean of what the parts of all processes measured."""
        self.optimizer.zero_grad(set_to_none=True)
        measured = [take(part) for part in parts]
        self._update()
        means = {name: torch.stack([each[name] for each in measured]).mean() for name in measured[0]}
        return dict(self._world.mean(means))

    def _parts(self, batch: Features) -> list[slice]:
        size = len(batch["row"]) // self._accumulation
        return [slice(first, first + size) for first in range(0, size * self._accumulation, size)]

    def _backward(self, loss: Tensor) -> None:
        (loss / self._accumulation).backward()  # type: ignore[no-untyped-call]

    def _first_image(self, batch: Features) -> int:
        return self._world.rank * len(batch["row"])

    def _with_images(self, batch: Features) -> Features:
        """The batch and its normalised images (V, B, 3, S, S), which online and target network both see."""
        views = batch["views"].transpose(0, 1)
        images = normalise(views.flatten(0, 1)).to(next(self.network.parameters()).dtype)
        return batch | {"images": torch.unflatten(images, 0, views.shape[:2])}

    def _precision(self) -> AbstractContextManager[object]:
        device = next(self.network.parameters()).device
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16)

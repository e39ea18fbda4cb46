"""A step of BYOL, SimCLR, MoCo v2 and DenseCL, on the views, optimiser and schedules that CYBORGS has."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from cyborgs.baselines.losses import byol_loss, matching_cells, nt_xent, queue_loss
from cyborgs.baselines.network import LAYER, ImageEncoder, ImageNetwork
from cyborgs.distributed import ALONE, World
from cyborgs.precision import at_least_float32
from cyborgs.training.settings import Optimization
from cyborgs.training.state import Features, Metrics, TrainingState


@dataclass(frozen=True)
class ImageContrast:
    """How whole images are contrasted."""

    temperature: float
    dense_weight: float
    """lambda of DenseCL's loss over cells (Wang et al. 2021, equation 4)."""


class ImagePretraining(TrainingState):
    """Networks, optimiser and step counter of a method that needs no masks."""

    network: ImageNetwork

    def __init__(
        self,
        network: ImageNetwork,
        optimizer: Optimizer,
        *,
        optimization: Optimization,
        contrast: ImageContrast,
        bfloat16: bool = False,
        accumulation: int = 1,
        world: World = ALONE,
    ) -> None:
        super().__init__(
            network, optimizer, optimization=optimization, bfloat16=bfloat16, accumulation=accumulation, world=world
        )
        if accumulation > 1 and network.method == "simclr":
            raise ValueError("SimCLR contrasts a batch with itself, which micro-batches do not hold")
        self._contrast = contrast
        self._step = {
            "byol": self._byol,
            "simclr": self._simclr,
            "moco": self._moco,
            "densecl": self._moco,
        }[network.method]

    def train_step(self, batch: Features) -> Metrics:
        """One step on the first two views.

        Args:
            batch: on the network's device views (B, V, 3, S, S) uint8.
        """
        metrics = self._begin() | self._step(self._with_images(batch))
        self.step += 1
        return metrics

    def _byol(self, batch: Features) -> Metrics:
        network = self.network
        assert network.target is not None
        targets = {part.start: self._no_gradient(network.target, batch, part) for part in self._parts(batch)}

        def take(part: slice) -> dict[str, Tensor]:
            first, second = targets[part.start]
            predictions = []
            for view in (0, 1):
                projections = network.online.project(self._features(network.online, batch, part, view))
                assert network.predictor is not None
                with self._precision():
                    predictions.append(network.predictor(projections))
            loss = byol_loss(predictions[0], second) + byol_loss(predictions[1], first)
            self._backward(loss)
            return {"loss": loss.detach(), "projection_std": _spread(torch.cat([first, second]))}

        return self._descend(self._parts(batch), take)

    def _simclr(self, batch: Features) -> Metrics:
        def take(part: slice) -> dict[str, Tensor]:
            online = self.network.online
            first, second = (online.project(self._features(online, batch, part, view)) for view in (0, 1))
            loss = nt_xent(first, second, temperature=self._contrast.temperature, world=self._world)
            self._backward(self._world.size * loss)
            return {"loss": loss.detach(), "projection_std": _spread(first.detach())}

        return self._descend(self._parts(batch), take)

    def _moco(self, batch: Features) -> Metrics:
        """View 1 asks, view 2 answers; with DenseCL each cell of view 1 asks too."""
        network, temperature = self.network, self._contrast.temperature
        assert network.target is not None and network.queue is not None
        keys: list[Tensor] = []
        dense_keys: list[Tensor] = []

        def take(part: slice) -> dict[str, Tensor]:
            assert network.target is not None and network.queue is not None
            with torch.no_grad():
                of_target = self._features(network.target, batch, part, 1)
                key = network.target.project(of_target)
            keys.append(key)
            features = self._features(network.online, batch, part, 0)
            loss = queue_loss(network.online.project(features), key, network.queue.rows, temperature=temperature)
            figures = {"contrast_loss": loss.detach()}
            if network.dense_queue is not None:
                with torch.no_grad():
                    cells = network.target.project_cells(of_target)
                    dense_keys.append(torch.nn.functional.normalize(cells, dim=1).mean(dim=2))
                    positives = matching_cells(features.flatten(2), of_target.flatten(2), cells)
                dense = queue_loss(
                    network.online.project_cells(features).transpose(1, 2).flatten(0, 1),
                    positives.transpose(1, 2).flatten(0, 1),
                    network.dense_queue.rows,
                    temperature=temperature,
                )
                weight = self._contrast.dense_weight
                loss = (1 - weight) * loss + weight * dense
                figures["dense_loss"] = dense.detach()
            self._backward(loss)
            return {"loss": loss.detach(), **figures, "projection_std": _spread(key)}

        metrics = self._descend(self._parts(batch), take)
        network.queue.push(self._world.gather(torch.cat(keys)))
        if network.dense_queue is not None:
            network.dense_queue.push(self._world.gather(torch.cat(dense_keys)))
        return metrics

    @torch.no_grad()
    def _no_gradient(self, encoder: ImageEncoder, batch: Features, part: slice) -> tuple[Tensor, Tensor]:
        first, second = (encoder.project(self._features(encoder, batch, part, view)) for view in (0, 1))
        return first, second

    def _features(self, encoder: ImageEncoder, batch: Features, part: slice, view: int) -> Tensor:
        with self._precision():
            features: Tensor = encoder.backbone(batch["images"][view, part], [LAYER])[LAYER]
        return at_least_float32(features)


def _spread(vectors: Tensor) -> Tensor:
    """Standard deviation of unit vectors over the batch, 1 when they fill the sphere, 0 in collapse."""
    unit: Tensor = torch.nn.functional.normalize(vectors.float(), dim=1)
    return unit.std(dim=0).mean() * float(unit.shape[1] ** 0.5)

"""All state that pretraining moves, and one step of it (Algorithms 2 and 3).

Axes: B images, V views, S the crop side, G the region grid, R sampled regions, D dimensions.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.optim import Optimizer

from cyborgs.augmentation.pixels import normalise
from cyborgs.losses.mask_contrastive import MaskLoss, mask_contrastive_loss, region_targets
from cyborgs.networks.fusion import unit_features
from cyborgs.networks.siamese import RegionEncoder, SiameseNetwork, apply_to_regions
from cyborgs.optimization.ema import update_average
from cyborgs.optimization.optimizers import load_optimizer_tensors, optimizer_tensors, set_learning_rate
from cyborgs.optimization.schedules import ema_momentum, learning_rate
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from cyborgs.training.vmf_step import VmfResult, vmf_loss

Features = dict[str, Tensor]
Metrics = dict[str, Tensor | float]


class Pretraining:
    """Networks, optimiser and step counter; both kinds of step move all of them."""

    def __init__(
        self,
        network: SiameseNetwork,
        optimizer: Optimizer,
        *,
        optimization: Optimization,
        vmf: VmfLoss,
        seed: int,
        bfloat16: bool = False,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.step = 0
        self._optimization, self._vmf, self._seed, self._bfloat16 = optimization, vmf, seed, bfloat16

    def warm_up_step(self, batch: Features) -> Metrics:
        """vMF loss alone, with weight 1: only the layers up to the clustered one run.

        Args:
            batch: row (B,), views (B, V, 3, S, S) uint8, boxes (B, V, 5).
        """
        metrics = self._begin()
        self._vmf_update(batch, views=(0, 1), weight=1.0, metrics=metrics)
        self.step += 1
        return metrics

    def train_step(self, batch: Features, contrast: Contrast, *, with_vmf: bool) -> Metrics:
        """Mask loss, and where `with_vmf` the vMF loss: in the same backward pass, or in an update of its own.

        Args:
            batch: as for warm-up, and labels (B, 2, G, G), regions (B, 2, R). With a separate vMF update, views
                2 and 3 are that update's.
        """
        metrics = self._begin()
        joint = with_vmf and contrast.vmf_update == "joint"
        images = [self._images(batch, view) for view in (0, 1)]
        layers = self._layers(self.network.online.contrast_layers, self._vmf.layers if joint else ())
        online = [self._encode(self.network.online, view, layers) for view in images]
        with torch.no_grad():
            target = [self._encode(self.network.target, view, layers) for view in images]

        mask = self._mask_loss(online, target, batch, contrast, metrics)
        loss = mask.loss
        if joint:
            vmf = self._vmf_loss(online, target, batch, views=(0, 1))
            loss = loss + contrast.vmf_weight * vmf.loss
            metrics |= {"vmf_loss": vmf.loss.detach(), "prototype_usage": vmf.usage_entropy}
        metrics["loss"] = loss.detach()
        self._update(loss)
        if with_vmf and not joint:
            self._vmf_update(batch, views=(2, 3), weight=contrast.vmf_weight, metrics=metrics)
            metrics["loss"] = mask.loss.detach() + metrics["loss"]
        self.step += 1
        return metrics

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the step counter, by name: networks and optimiser."""
        of_network = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        of_optimizer = optimizer_tensors(self.optimizer, self._trained())
        return of_network | {f"optimizer/{name}": tensor for name, tensor in of_optimizer.items()}

    def load(self, tensors: dict[str, Tensor], *, step: int) -> None:
        """Put back what `tensors` gave, at that step."""
        self.network.load_state_dict(_below(tensors, "network/"))
        load_optimizer_tensors(self.optimizer, self._trained(), _below(tensors, "optimizer/"))
        self.step = step

    def _trained(self) -> Iterable[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]

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
        return ema_momentum(self.step, start=self._optimization.ema_momentum, steps=self._optimization.steps)

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        update_average(self.network.target, self.network.online, self._momentum())

    def _vmf_update(self, batch: Features, *, views: tuple[int, int], weight: float, metrics: Metrics) -> None:
        images = [self._images(batch, view) for view in views]
        layers = self._vmf.layers
        # "paper" (3.4 to the letter): view 1 through the online network, view 2 through the target network.
        paper = self._vmf.branches == "paper"
        first = self._encode(self.network.online, images[0], layers)
        online = [first, {} if paper else self._encode(self.network.online, images[1], layers)]
        with torch.no_grad():
            unused: Features = {}
            target = [
                unused if paper else self._encode(self.network.target, images[0], layers),
                self._encode(self.network.target, images[1], layers),
            ]
        vmf = self._vmf_loss(online, target, batch, views=views)
        self._update(weight * vmf.loss)
        metrics |= {
            "loss": weight * vmf.loss.detach(),
            "vmf_loss": vmf.loss.detach(),
            "prototype_usage": vmf.usage_entropy,
        }

    def _vmf_loss(
        self, online: list[Features], target: list[Features], batch: Features, *, views: tuple[int, int]
    ) -> VmfResult:
        def units(features: Features) -> Tensor:
            if not features:
                return torch.empty(0)
            return unit_features([features[layer] for layer in self._vmf.layers])

        return vmf_loss(
            (units(online[0]), units(online[1])),
            (units(target[0]), units(target[1])),
            batch["boxes"][:, list(views)],
            batch["row"],
            self._vmf,
            seed=self._seed,
            step=self.step,
        )

    def _mask_loss(
        self,
        online: list[Features],
        target: list[Features],
        batch: Features,
        contrast: Contrast,
        metrics: Metrics,
    ) -> MaskLoss:
        labels, regions = batch["labels"].unbind(1), batch["regions"].unbind(1)
        predictions, targets = [], []
        for view in (0, 1):
            # Online and target pool the same regions of a view.
            projections = self._project(self.network.online, online[view], labels[view], regions[view])
            with self._precision():
                predictions.append(apply_to_regions(self.network.predictor, projections))
            with torch.no_grad():
                projected = self._project(self.network.target, target[view], labels[view], regions[view])
            targets.append(region_targets(projected, regions[view]))
        result = mask_contrastive_loss(
            predictions[0],
            predictions[1],
            regions[0],
            regions[1],
            targets[0],
            targets[1],
            temperature=contrast.temperature,
        )
        vectors = torch.cat([targets[0].vectors, targets[1].vectors])
        metrics |= {
            "mask_loss": result.loss.detach(),
            "projection_std": vectors.std(dim=0).mean() * vectors.shape[1] ** 0.5,
            "positives_per_anchor": result.positives_per_anchor,
            "orphans": result.orphans,
            "shared_negatives": result.shared_negatives,
            "regions_per_view": _distinct(batch["labels"].flatten(0, 1).flatten(1)),
        }
        return result

    def _project(self, encoder: RegionEncoder, features: Features, labels: Tensor, regions: Tensor) -> Tensor:
        pooled = encoder.pool(features, labels, regions)
        with self._precision():
            return apply_to_regions(encoder.projector, pooled)

    def _encode(self, encoder: RegionEncoder, images: Tensor, layers: Iterable[str]) -> Features:
        with self._precision():
            features: Features = encoder.backbone(images, layers)
        return features

    def _precision(self) -> AbstractContextManager[object]:
        device = next(self.network.parameters()).device
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16)

    @staticmethod
    def _images(batch: Features, view: int) -> Tensor:
        return normalise(batch["views"][:, view])

    @staticmethod
    def _layers(*wanted: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer for layers in wanted for layer in layers))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _distinct(labels: Tensor) -> Tensor:
    """Mean number of distinct values per row of (P, N) integers."""
    ordered = labels.sort(dim=1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).float().mean()

"""All state that pretraining moves, and one step of it (Algorithms 2 and 3).

Axes: B images, V views, S the crop side, G the region grid, R sampled regions, D dimensions.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.optim import Optimizer

from cyborgs.augmentation.pixels import normalise
from cyborgs.distributed import ALONE, World
from cyborgs.losses.mask_contrastive import MaskLoss, RegionTargets, mask_contrastive_loss, region_targets
from cyborgs.networks.fusion import unit_features
from cyborgs.networks.siamese import RegionEncoder, SiameseNetwork, apply_to_regions
from cyborgs.optimization.ema import update_average
from cyborgs.optimization.optimizers import load_optimizer_tensors, optimizer_tensors, set_learning_rate
from cyborgs.optimization.schedules import ema_momentum, learning_rate
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from cyborgs.training.vmf_step import StepClusters, cluster_step, vmf_loss

Features = dict[str, Tensor]
Views = tuple[Features, Features]
Pair = tuple[Tensor, Tensor]
Metrics = dict[str, Tensor | float]


class Pretraining:
    """Networks, optimiser and step counter; both kinds of step move all of them.

    A step's batch is this process' share of the global batch. What its loss is measured against, target projections
    and prototypes, comes from the whole global batch; then anchors are taken in `accumulation` micro-batches.
    """

    def __init__(
        self,
        network: SiameseNetwork,
        optimizer: Optimizer,
        *,
        optimization: Optimization,
        vmf: VmfLoss,
        seed: int,
        bfloat16: bool = False,
        accumulation: int = 1,
        world: World = ALONE,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.step = 0
        self._optimization, self._vmf, self._seed, self._bfloat16 = optimization, vmf, seed, bfloat16
        if accumulation > 1 and vmf.branches == "paper":
            raise ValueError('branches "paper" cluster online features, which micro-batches do not keep')
        self._accumulation, self._world = accumulation, world

    def warm_up_step(self, batch: Features) -> Metrics:
        """vMF loss alone, with weight 1: only the layers up to the clustered one run.

        Args:
            batch: row (B,) on the processor; on the network's device views (B, V, 3, S, S) uint8, boxes (B, V, 5).
        """
        metrics = self._begin()
        metrics |= self._vmf_update(self._with_images(batch), views=(0, 1), weight=1.0)
        self.step += 1
        return metrics

    def train_step(self, batch: Features, contrast: Contrast, *, with_vmf: bool) -> Metrics:
        """Mask loss, and where `with_vmf` the vMF loss: in the same backward pass, or in an update of its own.

        Args:
            batch: as for warm-up, and labels (B, 2, G, G), regions (B, 2, R). With a separate vMF update, views
                2 and 3 are that update's.
        """
        metrics, batch = self._begin(), self._with_images(batch)
        joint = with_vmf and contrast.vmf_update == "joint"
        metrics |= self._mask_update(batch, contrast, joint=joint)
        if with_vmf and not joint:
            second = self._vmf_update(batch, views=(2, 3), weight=contrast.vmf_weight)
            metrics |= second | {"loss": metrics["loss"] + second["loss"]}
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

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
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

    def _update(self) -> None:
        """Move the weights by the gradients that were summed up, and the target after them."""
        self._world.average_gradients(weight for _, weight in self._trained())
        self.optimizer.step()
        update_average(self.network.target, self.network.online, self._momentum())

    def _mask_update(self, batch: Features, contrast: Contrast, *, joint: bool) -> Metrics:
        online = self.network.online
        layers = tuple(dict.fromkeys((*online.contrast_layers, *(self._vmf.layers if joint else ()))))
        parts = self._parts(batch)
        # One part alone keeps its online features from here on; branches "paper" cluster them.
        ahead = self._encode(online, batch, parts[0], (0, 1), layers) if len(parts) == 1 else None
        targets, units = self._targets(batch, parts, layers, joint=joint)
        clusters = self._clusters(batch, (0, 1), self._units(ahead), units) if joint else None

        def take(part: slice) -> dict[str, Tensor]:
            features = ahead or self._encode(online, batch, part, (0, 1), layers)
            mask = self._mask_loss(features, targets, batch, part, contrast)
            loss, figures = mask.loss, {"mask_loss": mask.loss.detach()}
            if clusters is not None:
                vmf = vmf_loss(self._units(features), clusters, part, self._vmf)
                loss = loss + contrast.vmf_weight * vmf
                figures["vmf_loss"] = vmf.detach()
            self._backward(loss)
            return figures | {
                "loss": loss.detach(),
                "positives_per_anchor": mask.positives_per_anchor,
                "orphans": mask.orphans,
                "shared_negatives": mask.shared_negatives,
                "regions_per_view": _distinct(batch["labels"][part].flatten(0, 1).flatten(1)),
            }

        metrics = self._descend(parts, take)
        vectors = torch.cat([targets[0].vectors, targets[1].vectors])
        metrics["projection_std"] = vectors.std(dim=0).mean() * vectors.shape[1] ** 0.5
        return metrics | ({"prototype_usage": clusters.usage_entropy} if clusters is not None else {})

    def _vmf_update(self, batch: Features, *, views: tuple[int, int], weight: float) -> Metrics:
        network, layers = self.network, self._vmf.layers
        # "paper" (3.4 to the letter): view 1 through the online network, view 2 through the target network.
        paper = self._vmf.branches == "paper"
        learned = (views[0], None) if paper else views
        parts = self._parts(batch)
        ahead = self._encode(network.online, batch, parts[0], learned, layers) if len(parts) == 1 else None
        with torch.no_grad():
            clustered = (None, views[1]) if paper else views
            units = [self._units(self._encode(network.target, batch, part, clustered, layers)) for part in parts]
        clusters = self._clusters(batch, views, self._units(ahead), units)

        def take(part: slice) -> dict[str, Tensor]:
            features = ahead or self._encode(network.online, batch, part, learned, layers)
            vmf = vmf_loss(self._units(features), clusters, part, self._vmf)
            self._backward(weight * vmf)
            return {"loss": weight * vmf.detach(), "vmf_loss": vmf.detach()}

        return self._descend(parts, take) | {"prototype_usage": clusters.usage_entropy}

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

    @torch.no_grad()
    def _targets(
        self, batch: Features, parts: list[slice], layers: Sequence[str], *, joint: bool
    ) -> tuple[tuple[RegionTargets, RegionTargets], list[Pair]]:
        """What the target network gives for this process' images: projections, which are gathered, and unit features.

        Online and target pool the same regions of a view.
        """
        projected: tuple[list[Tensor], list[Tensor]] = ([], [])
        units: list[Pair] = []
        for part in parts:
            features = self._encode(self.network.target, batch, part, (0, 1), layers)
            for view in (0, 1):
                projected[view].append(self._project(self.network.target, features[view], batch, part, view))
            if joint:
                units.append(self._units(features))
        first, second = (
            region_targets(
                torch.cat(projected[view]), batch["regions"][:, view], first_image=self._first_image(batch)
            ).gathered(self._world)
            for view in (0, 1)
        )
        return (first, second), units

    def _clusters(self, batch: Features, views: tuple[int, int], online: Pair, target: list[Pair]) -> StepClusters:
        first, second = (torch.cat([pair[view] for pair in target]) for view in (0, 1))
        return cluster_step(
            online,
            (first, second),
            batch["boxes"][:, list(views)],
            batch["row"],
            self._vmf,
            seed=self._seed,
            step=self.step,
            world=self._world,
            parts=self._accumulation,
        )

    def _mask_loss(
        self,
        online: Views,
        targets: tuple[RegionTargets, RegionTargets],
        batch: Features,
        part: slice,
        contrast: Contrast,
    ) -> MaskLoss:
        predictions = []
        for view in (0, 1):
            projections = self._project(self.network.online, online[view], batch, part, view)
            with self._precision():
                predictions.append(apply_to_regions(self.network.predictor, projections))
        regions = batch["regions"][part]
        return mask_contrastive_loss(
            predictions[0],
            predictions[1],
            regions[:, 0],
            regions[:, 1],
            targets[0],
            targets[1],
            temperature=contrast.temperature,
            first_image=self._first_image(batch) + part.start,
        )

    def _first_image(self, batch: Features) -> int:
        return self._world.rank * len(batch["row"])

    def _project(self, encoder: RegionEncoder, features: Features, batch: Features, part: slice, view: int) -> Tensor:
        pooled = encoder.pool(features, batch["labels"][part, view], batch["regions"][part, view])
        with self._precision():
            return apply_to_regions(encoder.projector, pooled)

    def _with_images(self, batch: Features) -> Features:
        """The batch and its normalised images (V, B, 3, S, S), which online and target network both see."""
        views = batch["views"].transpose(0, 1)
        images = normalise(views.flatten(0, 1)).to(next(self.network.parameters()).dtype)
        return batch | {"images": torch.unflatten(images, 0, views.shape[:2])}

    def _encode(
        self,
        encoder: RegionEncoder,
        batch: Features,
        part: slice,
        views: tuple[int | None, int | None],
        layers: Sequence[str],
    ) -> Views:
        """Feature maps of two views of some images; none of a view that is not asked for."""

        def encode(view: int | None) -> Features:
            if view is None:
                return {}
            with self._precision():
                features: Features = encoder.backbone(batch["images"][view, part], layers)
            return features

        return encode(views[0]), encode(views[1])

    def _units(self, features: Views | None) -> Pair:
        """The maps that are clustered, of both views; empty where a view was not encoded."""

        def units(view: Features) -> Tensor:
            return unit_features([view[layer] for layer in self._vmf.layers]) if view else torch.empty(0)

        first, second = features or ({}, {})
        return units(first), units(second)

    def _precision(self) -> AbstractContextManager[object]:
        device = next(self.network.parameters()).device
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _distinct(labels: Tensor) -> Tensor:
    """Mean number of distinct values per row of (P, N) integers."""
    ordered = labels.sort(dim=1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).float().mean()

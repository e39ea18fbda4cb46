"""All state that pretraining moves, and one step of it (Algorithms 2 and 3).

Axes: B images, V views, S the crop side, G the region grid, R sampled regions, D dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from cyborgs.distributed import ALONE, World
from cyborgs.losses.mask_contrastive import MaskLoss, RegionTargets, mask_contrastive_loss, region_targets
from cyborgs.networks.fusion import unit_features
from cyborgs.networks.siamese import RegionEncoder, SiameseNetwork, apply_to_regions
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from cyborgs.training.state import Features, Metrics, TrainingState
from cyborgs.training.vmf_step import StepClusters, cluster_step, vmf_loss

Views = tuple[Features, Features]
Pair = tuple[Tensor, Tensor]


class Pretraining(TrainingState):
    """CYBORGS: both kinds of step move the same networks.

    What a step's loss is measured against, target projections and prototypes, comes from the whole global batch; then
    anchors are taken in micro-batches.
    """

    network: SiameseNetwork

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
        super().__init__(
            network, optimizer, optimization=optimization, bfloat16=bfloat16, accumulation=accumulation, world=world
        )
        self._vmf, self._seed = vmf, seed
        if accumulation > 1 and vmf.branches == "paper":
            raise ValueError('branches "paper" cluster online features, which micro-batches do not keep')

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

    def _project(self, encoder: RegionEncoder, features: Features, batch: Features, part: slice, view: int) -> Tensor:
        pooled = encoder.pool(features, batch["labels"][part, view], batch["regions"][part, view])
        with self._precision():
            return apply_to_regions(encoder.projector, pooled)

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


def _distinct(labels: Tensor) -> Tensor:
    """Mean number of distinct values per row of (P, N) integers."""
    ordered = labels.sort(dim=1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).float().mean()

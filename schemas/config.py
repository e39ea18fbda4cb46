"""Every setting of a run. The defaults are the paper's; where it is silent, docs/method.md says why.

Three kinds: what defines the result, `numerics` (rounding; pinned when the run is created) and `placement`
(free to change between any two attempts).
"""

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.architectures import Architecture, layer_names
from schemas.augmentation import AugmentationConfig
from schemas.machine import NumericsConfig, PlacementConfig
from schemas.masks import ClusterRange, LayerNames, MasksConfig
from schemas.planned_protocols import PlannedProtocol
from schemas.settings import Probability, Settings

Method = Literal["cyborgs", "byol", "simclr", "moco", "densecl"]
MOST_CYCLES = 10_000
"""Every cycle is three stages: a plan with more is a slip of the keyboard."""


class IndexConfig(Settings):
    """`index-images`: which photographs take part."""

    max_broken_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of photographs that may be broken before the run stops; those few are quarantined and listed."""
    min_side: Annotated[int, Field(ge=1)] = 32
    """Photographs whose shorter side has fewer pixels are quarantined: thumbnails and tracking pixels."""
    max_megapixels: Annotated[float, Field(gt=0)] = 179.0
    """Photographs with more million pixels than this are quarantined unread (decompression bombs)."""


class NetworkConfig(Settings):
    """The backbone, and what the mask loss puts on top of it."""

    architecture: Architecture = "resnet50"
    """A torchvision ResNet by name (section 4.1: ResNet-50)."""
    start: str = "random"
    """Start weights: "random", a file with a torchvision state dict (.pth, .safetensors), or another run."""
    contrast_layers: LayerNames = ("layer2", "layer3", "layer4")
    """Layers fused for the mask loss (Table 2c, equation 5; the paper's res2, res3, res4)."""
    region_grid: Annotated[int, Field(ge=1, le=64)] = 7
    """Cells along each side of the common grid on which layers are fused and regions pooled."""
    downsample: Literal["area", "bilinear"] = "area"
    """How finer layers come down to the common grid (equation 5 says bilinear; the authors average)."""
    projector_hidden: Annotated[int, Field(ge=1)] = 4096
    """Width of the hidden layer of projector and predictor (BYOL's MLP)."""
    projection_dim: Annotated[int, Field(ge=2)] = 256
    """Dimensions of projections and predictions."""


class ScheduleConfig(Settings):
    """When each phase happens (Algorithm 3). Epochs count from 0."""

    epochs: Annotated[int, Field(ge=1)] = 800
    """E: epochs in all, warm-up included."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    """W: epochs of vMF loss alone before the first masks (section 3.4)."""
    bootstrap_every_epochs: Annotated[int, Field(ge=0)] = 100
    """N: masks are renewed before every epoch t > W with t % N == 0 (Table 2a); 0 keeps the first masks."""
    checkpoint_epochs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Backbones kept besides those at the end of a stage, after so many epochs (Fig. 5b)."""
    extended_from: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Totals that `cyborgs extend` went beyond: epochs below one keep its schedules, and a cycle starts there."""


class OptimizationConfig(Settings):
    """How weights move."""

    optimizer: Literal["lars", "sgd", "adamw"] = "lars"
    """LARS as in the paper; SGD or AdamW for runs of a few hundred steps, in which LARS hardly moves a weight."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Photographs per step over all processes (section 4.1)."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate (section 4.1)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1.5e-6
    """Weight decay of parameters with two or more dimensions (section 4.1)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of LARS and SGD."""
    trust_coefficient: Annotated[float, Field(gt=0)] = 0.001
    """LARS: length of a step relative to the length of the weight."""
    lr_warmup_epochs: Annotated[float, Field(ge=0)] = 10.0
    """Epochs of linear growth of the learning rate."""
    lr_schedule: Literal["step", "cosine"] = "step"
    """After the growth: steps down at lr_milestones, or half a cosine to 0."""
    lr_milestones: tuple[Probability, ...] = (0.96, 0.98)
    """Shares of the run at which the learning rate is multiplied by lr_decay."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each milestone."""
    ema_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.996
    """Where the momentum of the target network starts (short runs start lower)."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"
    """Whether that momentum rises to 1 (BYOL), or stays (MoCo)."""


class VmfConfig(Settings):
    """The clustering consistency loss (equations 3 and 4)."""

    clusters: ClusterRange = (8, 8)
    """K of the prototypes in a step: a number, or a range to draw from (section 3.4: 8)."""
    concentration: Annotated[float, Field(gt=0)] = 10.0
    """kappa, shared by all clusters (equation 4)."""
    distance: Literal["vmf", "euclidean"] = "vmf"
    """d(mu, y) in equation 3 (Table 2f)."""
    branches: Literal["symmetric", "paper"] = "symmetric"
    """"symmetric": both views through both networks, all four terms carry gradient; "paper": 3.4 to the letter."""
    correspondence: Literal["geometric", "index"] = "geometric"
    """Inter terms match cells at the same place of the photograph, or at the same index of the grid."""
    iterations: Annotated[int, Field(ge=1)] = 20
    """Iterations of spherical k-means in a step."""
    points_per_cluster: Annotated[int, Field(ge=1)] = 256
    """Cells per cluster, over the whole batch, that prototypes are fitted on."""


class TrainConfig(Settings):
    """`train`: the mask loss (equation 2), with the vMF loss joining in; or another method, for comparison."""

    method: Method = "cyborgs"
    """The mask loss, or a method that contrasts whole photographs and needs no masks."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the contrast."""
    queue: Annotated[int, Field(ge=1)] = 65536
    """Of "moco" and "densecl": keys that are remembered as negatives."""
    dense_weight: Probability = 0.5
    """Of "densecl": weight of the loss over cells; what is left is the weight of the loss over photographs."""
    regions: Annotated[int, Field(ge=1, le=1024)] = 16
    """R: region ids sampled per view, with replacement."""
    region_sampling: Literal["independent", "shared"] = "independent"
    """Per view on its own (DetCon), or ids present in both views first."""
    vmf_every_epochs: Annotated[int, Field(ge=0)] = 5
    """M: the vMF loss joins in where epoch % M == 0 (Table 2g); 0 for never."""
    vmf_weight: Annotated[float, Field(ge=0)] = 0.1
    """lambda (Table 2h)."""
    vmf_update: Literal["joint", "separate"] = "joint"
    """One backward pass of the sum, or a second update with its own views (Algorithm 3 to the letter)."""


class EvaluateConfig(Settings):
    """`evaluate`: what needs no labels, and protocols that do."""

    images: Annotated[int, Field(ge=2)] = 512
    """Photographs measured, from the start of the index."""
    pictures: Annotated[int, Field(ge=0, le=256)] = 8
    """Photographs shown beside their masks in the report."""
    protocols: tuple[PlannedProtocol, ...] = ()
    """Frozen protocols to measure, such as {protocol: knn, data: DIR, cycles: [7], set: [crop=112]}."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.protocols:
            return self
        from schemas.protocols import load_protocol  # which takes its types from here

        for planned in self.protocols:
            load_protocol(planned.protocol, planned.set)
        titles = [planned.title for planned in self.protocols]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"protocols: {title} is named twice: give one of them another `name`")
        return self


class RunConfig(Settings):
    """Everything that a run is told."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Start of every random stream."""
    index: IndexConfig = IndexConfig()
    network: NetworkConfig = NetworkConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    vmf: VmfConfig = VmfConfig()
    masks: MasksConfig = MasksConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    numerics: NumericsConfig = NumericsConfig()
    placement: PlacementConfig = PlacementConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        architecture = self.network.architecture
        known = layer_names(architecture)
        for field, layers in (
            ("masks.layer", self.masks.layer),
            ("network.contrast_layers", self.network.contrast_layers),
        ):
            for layer in layers:
                if layer not in known:
                    raise ValueError(f"{field}: {architecture} has no layer {layer!r}; it has {', '.join(known)}")
            if len(set(layers)) < len(layers):
                raise ValueError(f"{field}: a layer is named twice in {', '.join(layers)}")
        size, grid = self.augmentation.crop_size, self.network.region_grid
        if size % grid:
            raise ValueError(
                f"augmentation.crop_size {size} is not a multiple of network.region_grid {grid}: "
                f"use a crop of {size // grid * grid or grid} or {(size // grid + 1) * grid}"
            )
        schedule = self.schedule
        if schedule.epochs <= schedule.warmup_epochs:
            raise ValueError(
                f"schedule.epochs {schedule.epochs} leaves nothing after schedule.warmup_epochs "
                f"{schedule.warmup_epochs}: raise the one or lower the other"
            )
        totals = (schedule.warmup_epochs, *schedule.extended_from, schedule.epochs)
        if any(before >= after for before, after in itertools.pairwise(totals)):
            raise ValueError(
                f"schedule.extended_from {list(schedule.extended_from)}: name totals in rising order, above "
                f"schedule.warmup_epochs {schedule.warmup_epochs} and below schedule.epochs {schedule.epochs}"
            )
        if schedule.bootstrap_every_epochs and schedule.epochs // schedule.bootstrap_every_epochs > MOST_CYCLES:
            raise ValueError(
                f"schedule.epochs {schedule.epochs} with schedule.bootstrap_every_epochs "
                f"{schedule.bootstrap_every_epochs} makes more than {MOST_CYCLES} cycles: raise the second"
            )
        if self.optimization.lr_warmup_epochs > schedule.epochs:
            raise ValueError(
                f"optimization.lr_warmup_epochs {self.optimization.lr_warmup_epochs:g} is longer than the run "
                f"(schedule.epochs {schedule.epochs}): use 5 % of it or less"
            )
        for epoch in schedule.checkpoint_epochs:
            if epoch > schedule.epochs:
                raise ValueError(f"schedule.checkpoint_epochs: {epoch} is beyond schedule.epochs {schedule.epochs}")
        self._check_shares()
        self._check_method()
        return self

    def _check_method(self) -> None:
        method = self.train.method
        if method == "cyborgs":
            return
        if self.schedule.warmup_epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs}: {method} has no warm-up of its own: set it to 0"
            )
        if method == "simclr" and self.numerics.accumulation > 1:
            raise ValueError(
                f"numerics.accumulation {self.numerics.accumulation}: simclr contrasts a batch with itself, which "
                "micro-batches do not hold; use numerics.accumulation 1"
            )

    def _check_shares(self) -> None:
        numerics, batch_size = self.numerics, self.optimization.batch_size
        if batch_size % (numerics.world_size * numerics.accumulation):
            raise ValueError(
                f"optimization.batch_size {batch_size} does not divide by numerics.world_size {numerics.world_size} x "
                f"numerics.accumulation {numerics.accumulation}: every process and micro-batch takes an equal share"
            )
        if numerics.accumulation > 1 and self.vmf.branches == "paper":
            raise ValueError(
                f"numerics.accumulation {numerics.accumulation}: vmf.branches paper clusters online features of the "
                "whole batch, which micro-batches do not keep; use vmf.branches symmetric or numerics.accumulation 1"
            )
        if numerics.world_size > 1 and self.placement.launcher == "inline":
            raise ValueError(
                f"placement.launcher inline is one process and numerics.world_size is {numerics.world_size}: "
                "use placement.launcher process or numerics.world_size 1"
            )

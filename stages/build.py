"""From the run's config to the method's plain arguments."""

import shutil

import torch
from torch import Tensor
from torch.optim import Optimizer

from cyborgs.augmentation.views import Augmentation
from cyborgs.baselines.network import ImageNetwork
from cyborgs.baselines.pretraining import ImageContrast, ImagePretraining
from cyborgs.clustering.crf import Crf
from cyborgs.distributed import ALONE, World
from cyborgs.networks.siamese import SiameseNetwork
from cyborgs.optimization.optimizers import make_optimizer
from cyborgs.training.pretraining import Pretraining
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from cyborgs.training.state import TrainingState
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.masks import MasksConfig


def start_state(
    config: RunConfig,
    *,
    schedule_epochs: int,
    steps_per_epoch: int,
    device: torch.device,
    world: World = ALONE,
    start: dict[str, Tensor] | None = None,
) -> TrainingState:
    """What the run's method moves, at the start of the run.

    Args:
        start: weights of the backbone; None for random ones.

    Raises:
        ValueError: `start` is not of this architecture.
    """
    if config.train.method == "cyborgs":
        network = build_network(config)
        if start is not None:
            network.start_from(start)
        return build_pretraining(
            config,
            network,
            schedule_epochs=schedule_epochs,
            steps_per_epoch=steps_per_epoch,
            device=device,
            world=world,
        )
    images = build_image_network(config)
    if start is not None:
        images.start_from(start)
    return ImagePretraining(
        images,
        _placed(config, images, device, world),
        optimization=_optimization(config, schedule_epochs, steps_per_epoch),
        contrast=ImageContrast(config.train.temperature, config.train.dense_weight),
        bfloat16=computes_in_bfloat16(config),
        accumulation=config.numerics.accumulation,
        world=world,
    )


def build_image_network(config: RunConfig) -> ImageNetwork:
    """The networks of a method that contrasts whole photographs."""
    assert config.train.method != "cyborgs"
    return ImageNetwork(
        config.train.method,
        architecture=config.network.architecture,
        hidden=config.network.projector_hidden,
        dim=config.network.projection_dim,
        queue=config.train.queue,
        seed=config.seed,
    )


def build_network(config: RunConfig) -> SiameseNetwork:
    """Online and target network with their random start weights."""
    return SiameseNetwork(
        architecture=config.network.architecture,
        contrast_layers=config.network.contrast_layers,
        region_grid=config.network.region_grid,
        downsample=config.network.downsample,
        hidden=config.network.projector_hidden,
        dim=config.network.projection_dim,
        seed=config.seed,
    )


def build_pretraining(
    config: RunConfig,
    network: SiameseNetwork,
    *,
    schedule_epochs: int,
    steps_per_epoch: int,
    device: torch.device,
    world: World = ALONE,
) -> Pretraining:
    """The network on its device, with optimiser, and schedules over so many epochs."""
    return Pretraining(
        network,
        _placed(config, network, device, world),
        optimization=_optimization(config, schedule_epochs, steps_per_epoch),
        vmf=VmfLoss(
            layers=config.masks.layer,
            clusters=config.vmf.clusters,
            concentration=config.vmf.concentration,
            distance=config.vmf.distance,
            branches=config.vmf.branches,
            correspondence=config.vmf.correspondence,
            iterations=config.vmf.iterations,
            points_per_cluster=config.vmf.points_per_cluster,
        ),
        seed=config.seed,
        bfloat16=computes_in_bfloat16(config),
        accumulation=config.numerics.accumulation,
        world=world,
    )


def _placed(config: RunConfig, network: SiameseNetwork | ImageNetwork, device: torch.device, world: World) -> Optimizer:
    """Put the networks on their device, as they are to compute there; their optimiser."""
    settings = config.optimization
    network.to(device).to(memory_format=torch.channels_last)
    world.synchronise_batch_norm(network, device)
    if config.numerics.compile:
        _compile(network, device)
    return make_optimizer(
        settings.optimizer,
        [(name, p) for name, p in network.named_parameters() if p.requires_grad],
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        trust_coefficient=settings.trust_coefficient,
    )


def _optimization(config: RunConfig, schedule_epochs: int, steps_per_epoch: int) -> Optimization:
    settings = config.optimization
    return Optimization(
        learning_rate=settings.learning_rate,
        lr_warmup_steps=round(settings.lr_warmup_epochs * steps_per_epoch),
        lr_schedule=settings.lr_schedule,
        lr_milestones=settings.lr_milestones,
        lr_decay=settings.lr_decay,
        ema_momentum=settings.ema_momentum,
        ema_schedule=settings.ema_schedule,
        steps=schedule_epochs * steps_per_epoch,
    )


def _compile(network: SiameseNetwork | ImageNetwork, device: torch.device) -> None:
    """All backbones, in place: names of weights stay."""
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++")):
        raise ConfigError("numerics.compile: needs a C++ compiler on a processor, and there is no g++ or clang++ here")
    for encoder in (network.online, network.target):
        if encoder is not None:
            encoder.backbone.compile()


def build_augmentation(config: RunConfig) -> Augmentation:
    """BYOL's pipelines with the run's ranges."""
    return Augmentation(**dict(config.augmentation))


def build_contrast(config: RunConfig) -> Contrast:
    """What the mask loss is told."""
    return Contrast(
        temperature=config.train.temperature,
        vmf_weight=config.train.vmf_weight,
        vmf_update=config.train.vmf_update,
    )


def build_crf(config: RunConfig) -> Crf | None:
    """How masks are refined, if they are."""
    masks = config.masks
    return crf_of(masks) if masks.crf else None


def crf_of(masks: MasksConfig) -> Crf:
    """Kernels and iterations as set."""
    return Crf(
        concentration=masks.crf_concentration,
        iterations=masks.crf_iterations,
        appearance=masks.crf_appearance,
        smoothness=masks.crf_smoothness,
    )


def joins_vmf(config: RunConfig, epoch: int) -> bool:
    """Whether the vMF loss joins the mask loss in that epoch: t % M == 0, with M and lambda above 0."""
    every = config.train.vmf_every_epochs
    return every > 0 and config.train.vmf_weight > 0 and epoch % every == 0


def computes_in_bfloat16(config: RunConfig) -> bool:
    """Whether the networks run in bfloat16."""
    precision = config.numerics.precision
    assert precision != "auto", "pinned when the run was created"
    return precision == "bfloat16"

"""bfloat16 points the way that float32 does."""

import numpy as np
import pytest
from torch import Tensor

from cyborgs.augmentation.dataset import Regions, StepSampler, ViewDataset, view_loader
from cyborgs.augmentation.views import Augmentation
from cyborgs.networks.siamese import SiameseNetwork
from cyborgs.optimization.optimizers import make_optimizer
from cyborgs.training.pretraining import Pretraining
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from tests.scenes import make_scenes

STEPS = 40
OPTIMIZATION = Optimization(
    learning_rate=1e-3,
    lr_warmup_steps=10,
    lr_schedule="cosine",
    lr_milestones=(),
    lr_decay=0.1,
    ema_momentum=0.996,
    steps=1000,
)
VMF = VmfLoss(
    layers=("layer2.0",),
    clusters=(4, 4),
    concentration=10.0,
    distance="vmf",
    branches="symmetric",
    correspondence="geometric",
    iterations=5,
    points_per_cluster=64,
)
CONTRAST = Contrast(temperature=0.1, vmf_weight=0.1, vmf_update="joint")
AUGMENTATION = Augmentation(
    crop_size=64,
    crop_area=(0.3, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grey_probability=0.2,
    blur_probability=(1.0, 0.1),
    blur_kernel=7,
    blur_sigma=(0.1, 0.6),
    solarize_probability=(0.0, 0.2),
    solarize_threshold=0.5,
)


def _pretraining(*, bfloat16: bool) -> Pretraining:
    network = SiameseNetwork(
        architecture="resnet18",
        contrast_layers=("layer2", "layer3", "layer4"),
        region_grid=4,
        downsample="area",
        hidden=128,
        dim=64,
        seed=0,
    )
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    optimizer = make_optimizer(
        "adamw", trained, learning_rate=1e-3, weight_decay=0.0, momentum=0.9, trust_coefficient=0.001
    )
    return Pretraining(network, optimizer, optimization=OPTIMIZATION, vmf=VMF, seed=0, bfloat16=bfloat16)


@pytest.fixture(scope="module")
def batches() -> list[dict[str, Tensor]]:
    """Of scenes with their true regions."""
    scenes = make_scenes(32, seed=0)
    dataset = ViewDataset(
        lambda row: scenes[row].photograph,
        AUGMENTATION,
        seed=0,
        regions=Regions(labels=lambda row: scenes[row].regions, grid=4, count=4, sampling="independent"),
    )
    sampler = StepSampler(32, batch_size=16, seed=0, first_step=0, last_step=STEPS + 1, pairs=lambda _: 1)
    return list(view_loader(dataset, sampler, workers=0, pin_memory=False))


@pytest.fixture(scope="module")
def state(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """After a few steps: the regions of a random network are nearly alike, and batch-norm magnifies their rounding."""
    pretraining = _pretraining(bfloat16=False)
    for batch in batches[:STEPS]:
        pretraining.train_step(batch, CONTRAST, with_vmf=True)
    return {name: tensor.clone() for name, tensor in pretraining.network.state_dict().items()}


@pytest.mark.parametrize("step", ["warm-up", "mask loss", "both losses"])
def test_gradients_agree(batches: list[dict[str, Tensor]], state: dict[str, Tensor], step: str) -> None:
    """Over all weights that have one, the cosine of the gradients is above 0.99."""
    gradients = []
    for bfloat16 in (False, True):
        pretraining = _pretraining(bfloat16=bfloat16)
        pretraining.network.load_state_dict(state)
        pretraining.step = STEPS
        if step == "warm-up":
            pretraining.warm_up_step(batches[STEPS])
        else:
            pretraining.train_step(batches[STEPS], CONTRAST, with_vmf=step == "both losses")
        found = [weight.grad for weight in pretraining.network.parameters() if weight.grad is not None]
        gradients.append(np.concatenate([gradient.double().flatten().numpy() for gradient in found]))
    exact, rounded = gradients
    assert not np.array_equal(exact, rounded)
    assert exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded) > 0.99

"""What a run is said to cost."""

import shlex
from pathlib import Path

import pytest
import torch
import torchvision

from cli.main import main
from cyborgs.networks.backbone import Backbone
from schemas.architectures import ARCHITECTURES, layer_channels
from schemas.estimates import (
    BYTES_PER_CELL,
    BYTES_PER_PIXEL,
    CRF_SECONDS,
    PARAMETERS,
    ROW_BYTES,
    bootstrap_ratio,
    cells,
    checkpoint_bytes,
    crf_seconds,
    estimate,
    storage_need,
)
from schemas.loading import load_config
from schemas.plan import plan
from stages.build import build_network, build_pretraining

SCALING = Path(__file__).parents[2] / "docs/scaling.md"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_are_torchvisions(architecture: str) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, architecture)()
    assert PARAMETERS[architecture] == sum(p.numel() for name, p in network.named_parameters() if "fc." not in name)


def test_a_hand_worked_example() -> None:
    """6 epochs, one of warm-up, masks before epochs 1 and 4, vMF in epochs 2 and 4: 5 + 2 pairs a photograph."""
    settings = [
        "schedule.epochs=6",
        "schedule.warmup_epochs=1",
        "schedule.bootstrap_every_epochs=4",
        "schedule.checkpoint_epochs=[]",
        "optimization.lr_warmup_epochs=0",
        "train.vmf_every_epochs=2",
        "train.vmf_update=separate",
        "masks.max_side=448",
        "augmentation.crop_size=224",
        "evaluate.images=10",
    ]
    config = load_config("coco", settings)
    costs = {c.stage: c for c in estimate(config, images=1000, gpus=2, seconds_per_image=0.1, cores=4)}
    assert bootstrap_ratio(config) == pytest.approx(0.75 * 4 * 0.5 / 8)
    assert cells(config) == 56 * 42
    assert costs["index-images"].seconds == pytest.approx(1000 * 0.005 / 4)
    assert costs["warm-up"].seconds == pytest.approx(50)
    assert costs["bootstrap-masks"].seconds == pytest.approx(2 * 1000 * 0.1 * 0.1875 / 2)
    assert costs["train"].seconds == pytest.approx(7 * 50)
    assert costs["evaluate"].seconds == pytest.approx(2)
    assert costs["bootstrap-masks"].bytes == int(2 * 1000 * 56 * 42 * 0.6)
    assert costs["train"].bytes == 2 * checkpoint_bytes(config)
    projector, predictor = 3584 * 4096 + 3 * 4096 + 4096 * 256, 256 * 4096 + 3 * 4096 + 4096 * 256
    assert checkpoint_bytes(config) == 4 * (3 * (PARAMETERS["resnet50"] + projector) + 2 * predictor)


def test_refined_masks_take_a_byte_a_pixel_and_seconds_a_photograph() -> None:
    settings = ["masks.crf=true", "masks.max_side=320", "masks.crf_iterations=5"]
    plain, refined = load_config("coco", settings[1:]), load_config("coco", settings)
    before, after = (
        {c.stage: c for c in estimate(config, images=1000, gpus=2, seconds_per_image=0.1, cores=4)}["bootstrap-masks"]
        for config in (plain, refined)
    )
    assert cells(refined) == 320 * 240
    assert crf_seconds(plain) == 0
    assert after.seconds - before.seconds == pytest.approx(after.photographs * CRF_SECONDS / 4 / 2 / 2)
    assert after.bytes == int(after.count * 1000 * 320 * 240 * BYTES_PER_PIXEL)


@pytest.mark.parametrize("images", [118_000, 1_200_000, 100_000_000])
def test_the_documented_tables_are_what_the_command_prints(images: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(f"plan coco --images {images} --gpus 8 --seconds-per-image 0.01")) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index(f"{images:,} photographs") :]
    assert table in SCALING.read_text() + "\n"


def test_photographs_without_seconds_tell_of_storage_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "coco", "--images", "1000"]) == 0
    told = capsys.readouterr().out
    assert "storage while it runs, at most: 6." in told
    assert " s  " not in told.split("warm-up")[-1].splitlines()[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_channels_are_torchvisions(architecture: str) -> None:
    with torch.device("meta"):
        network = Backbone(architecture, seed=0)
    for layer in ("layer1", "layer2.0", "layer3", "layer4.1"):
        assert layer_channels(architecture, layer) == network.channels(layer), layer


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_a_checkpoint_takes_what_is_said(optimizer: str) -> None:
    """Against the tensors of a network and an optimiser that has taken a step."""
    config = load_config("small", [f"optimization.optimizer={optimizer}", "numerics.precision=float32"])
    network = build_network(config)
    device = torch.device("cpu")
    made = build_pretraining(config, network, schedule_epochs=24, steps_per_epoch=4, device=device)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    made.optimizer.step()
    total = sum(tensor.numel() * tensor.element_size() for tensor in made.tensors().values())
    assert checkpoint_bytes(config) == pytest.approx(total, rel=0.005)


def test_what_retention_saves() -> None:
    """Eight cycles and warm-up: nine checkpoints, or two of them and on the way three more."""
    settings = ["schedule.checkpoint_epochs=[]", "placement.keep_checkpoints=last:2"]
    everything, few = load_config("coco", settings[:1]), load_config("coco", settings)
    each = checkpoint_bytes(few)
    needs = [storage_need(config, images=1000, steps=plan(config)) for config in (everything, few)]
    assert needs[0] - needs[1] == 7 * each
    masks = int(1000 * cells(few) * BYTES_PER_CELL)
    assert needs[1] == 5 * each + 8 * masks + 1000 * ROW_BYTES
    left = [step for step in plan(few) if step.stage == "evaluate"]
    assert storage_need(few, images=1000, steps=left) == 0

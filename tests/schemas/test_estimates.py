"""What a run is said to cost."""

import shlex
from pathlib import Path

import pytest
import torchvision

from cli.main import main
from schemas.architectures import ARCHITECTURES
from schemas.estimates import (
    BYTES_PER_PIXEL,
    CRF_SECONDS,
    PARAMETERS,
    bootstrap_ratio,
    cells,
    checkpoint_bytes,
    crf_seconds,
    estimate,
)
from schemas.loading import load_config

SCALING = Path(__file__).parents[2] / "docs/scaling.md"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_are_torchvisions(architecture: str) -> None:
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
    assert costs["train"].bytes == 2 * checkpoint_bytes(config) == 2 * 3 * 4 * PARAMETERS["resnet50"]


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


def test_photographs_without_seconds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "coco", "--images", "10"]) == 2
    assert "--seconds-per-image" in capsys.readouterr().err

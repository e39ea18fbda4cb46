"""What a run is said to cost."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from cli.main import main
from cyborgs.mask_sources.partitions import felzenszwalb_regions, grid
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
    estimate_step,
    mask_bytes,
    storage_need,
)
from schemas.loading import load_config
from schemas.plan import plan
from stages.build import start_state
from storage.masks import MaskRow, create_mask_store, write_shard

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


@pytest.mark.parametrize(
    ("source", "labels", "size", "seconds"),
    [
        (["masks.source=whole-image"], 1, 31, 0),
        (["masks.source=grid", "masks.grid_cells=6"], 36, 66, 0),
        (["masks.source=felzenszwalb"], 320 * 240, 320 * 240 * 0.02, 0.5 / 4),
        (["masks.source=selective-search"], 320 * 240, 320 * 240 * 0.02, 2.0 / 4),
        (["masks.source=files", "masks.source_paths=masks.json"], 320 * 240, 320 * 240 * 0.02, 0.03 / 4),
    ],
)
def test_masks_that_are_made_once_cost_what_their_source_does(
    source: list[str], labels: int, size: float, seconds: float
) -> None:
    config = load_config("coco", ["masks.max_side=320", *source])
    cost = {c.stage: c for c in estimate(config, images=1000, gpus=2, seconds_per_image=0.1, cores=4)}
    assert cells(config) == labels
    assert cost["bootstrap-masks"].count == 1
    assert cost["bootstrap-masks"].bytes == int(1000 * size)
    assert cost["bootstrap-masks"].seconds == pytest.approx(1000 * seconds / 2)


@pytest.mark.parametrize("source", ["felzenszwalb", "grid"])
def test_a_fixed_store_takes_what_is_said(source: str, tmp_path: Path) -> None:
    """Within a factor of three, of a real store of small photographs of ragged regions."""
    config = load_config("small", [f"masks.source={source}", "masks.max_side=320"])
    random = np.random.default_rng(0)
    rows = []
    for _ in range(64):
        coarse = np.kron(random.integers(0, 255, (8, 10, 3)), np.ones((30, 32, 1)))
        image = Image.fromarray((coarse + random.normal(0, 8, coarse.shape)).clip(0, 255).astype(np.uint8))
        labels = grid(5) if source == "grid" else felzenszwalb_regions(image, scale=200, sigma=0.8, min_size=200)
        rows.append(MaskRow(labels, (240, 320), int(labels.max()) + 1))
    shape = rows[0].labels.shape
    create_mask_store(tmp_path / "masks.zarr", rows=64, grid=shape, rows_per_shard=64, attributes={})
    write_shard(tmp_path / "masks.zarr", 0, rows)
    files = [file for file in (tmp_path / "masks.zarr").rglob("*") if file.is_file() and file.name != "zarr.json"]
    taken = sum(file.stat().st_size for file in files) / 64
    assert mask_bytes(config) / 3 < taken < 3 * mask_bytes(config)


@pytest.mark.parametrize("update", ["separate", "joint"])
def test_steps_add_up_to_the_whole(update: str) -> None:
    """Of each step; a vMF update of its own, every fifth epoch of training, is a second pair of views."""
    settings = [
        "schedule.epochs=100",
        "schedule.checkpoint_epochs=[]",
        f"train.vmf_update={update}",
        "train.vmf_every_epochs=5",
    ]
    config = load_config("coco", settings)
    of = {"images": 1000, "gpus": 2, "cores": 4}
    whole = {c.stage: c.seconds for c in estimate(config, seconds_per_image=0.1, **of)}
    for stage, seconds in whole.items():
        steps = [step for step in plan(config) if step.stage == stage]
        assert seconds == pytest.approx(sum(estimate_step(config, step, seconds_per_image=0.1, **of) for step in steps))
    warm = config.schedule.warmup_epochs
    pairs = 100 - warm + (sum(epoch % 5 == 0 for epoch in range(warm, 100)) if update == "separate" else 0)
    assert whole["train"] == pytest.approx(pairs * 1000 * 0.1 / 2)
    assert whole["warm-up"] == pytest.approx(warm * 1000 * 0.1 / 2)


@pytest.mark.parametrize("method", ["byol", "simclr", "moco", "densecl"])
def test_methods_without_masks_have_no_cost_of_masks(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"train.method={method}", "schedule.warmup_epochs=0", "train.vmf_update=separate"]
    config = load_config("coco", settings)
    cost = {c.stage: c for c in estimate(config, images=1000, gpus=2, seconds_per_image=0.1, cores=4)}
    assert "bootstrap-masks" not in cost
    assert cost["train"].seconds == pytest.approx(config.schedule.epochs * 1000 * 0.1 / 2)  # nor a vMF loss
    assert main(["plan", "coco", "--images", "1000", *(f"--set={each}" for each in settings)]) == 0
    assert "cache of masks" not in capsys.readouterr().out


@pytest.mark.parametrize("images", [118_000, 1_200_000, 100_000_000])
def test_the_documented_tables_are_what_the_command_prints(images: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(f"plan coco --images {images} --gpus 8 --seconds-per-image 0.01")) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index(f"{images:,} photographs") :]
    assert table in SCALING.read_text() + "\n"


def test_too_few_photographs_are_told_here_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "small", "--images", "25"]) == 0
    told = capsys.readouterr().out
    assert told.endswith(
        "25 photographs do not fill a batch of 32: add photographs or --set optimization.batch_size=16\n"
    )


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


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [("cyborgs", "lars"), ("cyborgs", "adamw"), *((each, "adamw") for each in ("byol", "simclr", "moco", "densecl"))],
)
def test_a_checkpoint_takes_what_is_said(method: str, optimizer: str) -> None:
    """Against the tensors of a network and an optimiser that has taken a step."""
    settings = [f"train.method={method}", f"optimization.optimizer={optimizer}", "numerics.precision=float32"]
    config = load_config("small", [*settings, *(["schedule.warmup_epochs=0"] if method != "cyborgs" else [])])
    made = start_state(config, schedule_epochs=24, steps_per_epoch=4, device=torch.device("cpu"))
    for parameter in made.network.parameters():
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

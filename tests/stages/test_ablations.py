"""Each switch of the paper's ablations (Table 2), and of what the paper leaves open, changes what is computed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cyborgs.augmentation.dataset import Regions, StepSampler, ViewDataset, view_loader
from schemas.config import RunConfig
from schemas.loading import load_config
from schemas.plan import bootstrap_epochs
from schemas.stages import StageRequest
from stages.build import build_augmentation, build_contrast, build_network, build_pretraining, joins_vmf
from stages.execute import run_stage
from storage import layout
from storage.artifacts import standing
from storage.masks import read_rows
from storage.run import open_run
from tests.conftest import draw_scene
from tests.pipeline import prepare

EPOCH = 2
"""One in which the vMF loss joins in, by the tiny settings."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _step(config: RunConfig) -> dict[str, Tensor]:
    """One step of training from the start weights on four photographs: its losses, and where every weight ends."""
    random = np.random.default_rng(0)
    photographs = [draw_scene(random, 96, 72) for _ in range(4)]
    maps = [random.integers(0, 6, (9, 12), dtype=np.uint8) for _ in photographs]
    dataset = ViewDataset(
        lambda row: photographs[row],
        build_augmentation(config),
        seed=config.seed,
        regions=Regions(
            labels=lambda row: maps[row],
            grid=config.network.region_grid,
            count=config.train.regions,
            sampling=config.train.region_sampling,
        ),
    )
    joins = joins_vmf(config, EPOCH)
    pairs = 2 if joins and config.train.vmf_update == "separate" else 1
    sampler = StepSampler(4, batch_size=4, seed=0, first_step=EPOCH, last_step=EPOCH + 1, pairs=lambda _: pairs)
    (batch,) = view_loader(dataset, sampler, workers=0, pin_memory=False)
    pretraining = build_pretraining(
        config,
        build_network(config),
        schedule_epochs=config.schedule.epochs,
        steps_per_epoch=1,
        device=torch.device("cpu"),
    )
    pretraining.step = EPOCH
    metrics = pretraining.train_step(batch, build_contrast(config), with_vmf=joins)
    weights = {name: weight.detach() for name, weight in pretraining.network.online.named_parameters()}
    return weights | {name: torch.as_tensor(value) for name, value in metrics.items()}


@pytest.fixture(scope="module")
def usual(tiny_config: Path) -> dict[str, Tensor]:
    return _step(load_config(str(tiny_config), []))


@pytest.mark.parametrize(
    ("setting", "same", "different"),
    [
        ("network.contrast_layers=[layer3,layer4]", (), ("mask_loss",)),
        ("vmf.distance=euclidean", ("mask_loss",), ("vmf_loss",)),
        ("vmf.branches=paper", ("mask_loss",), ()),  # at the start both networks are one: only gradients differ
        ("vmf.correspondence=index", ("mask_loss",), ("vmf_loss",)),
        ("vmf.clusters=5", ("mask_loss",), ("vmf_loss",)),
        ("vmf.concentration=3", ("mask_loss",), ("vmf_loss",)),
        ("masks.layer=[layer2.1,layer3.0]", ("mask_loss",), ("vmf_loss",)),
        ("train.vmf_weight=0.7", ("mask_loss", "vmf_loss"), ("loss",)),
        ("train.vmf_update=separate", ("mask_loss",), ("vmf_loss", "loss")),
        ("train.region_sampling=shared", ("vmf_loss",), ("mask_loss",)),
    ],
)
def test_a_switch_changes_the_step(
    usual: dict[str, Tensor], tiny_config: Path, setting: str, same: tuple[str, ...], different: tuple[str, ...]
) -> None:
    """The part of the loss that it is about and where the weights end, but not the other part."""
    found = _step(load_config(str(tiny_config), [setting]))
    for name in same:
        torch.testing.assert_close(found[name], usual[name], msg=lambda text, name=name: f"{name}: {text}")
    for name in different:
        assert abs(float(found[name]) - float(usual[name])) > 1e-4, name
    assert not found["backbone.conv1.weight"].equal(usual["backbone.conv1.weight"])


def test_bilinear_fusion_changes_the_step(tiny_config: Path) -> None:
    """From 8 cells to 2: the mean of all, or of those around the centre (from 8 to 4 they are the same)."""
    ways = ("area", "bilinear")
    area, bilinear = (
        _step(load_config(str(tiny_config), ["network.region_grid=2", f"network.downsample={way}"])) for way in ways
    )
    assert abs(float(area["mask_loss"]) - float(bilinear["mask_loss"])) > 1e-4
    torch.testing.assert_close(area["vmf_loss"], bilinear["vmf_loss"])


@pytest.mark.parametrize("setting", ["train.vmf_every_epochs=3", "train.vmf_every_epochs=0", "train.vmf_weight=0"])
def test_where_the_vmf_loss_does_not_join_it_is_not_computed(
    usual: dict[str, Tensor], tiny_config: Path, setting: str
) -> None:
    found = _step(load_config(str(tiny_config), [setting]))
    assert "vmf_loss" in usual
    assert "vmf_loss" not in found
    torch.testing.assert_close(found["loss"], usual["mask_loss"])


def test_shared_samples_have_more_positives(usual: dict[str, Tensor], tiny_config: Path) -> None:
    """Ids of both views first: fewer anchors are left without a positive."""
    found = _step(load_config(str(tiny_config), ["train.region_sampling=shared"]))
    assert float(found["orphans"]) < float(usual["orphans"])


@pytest.mark.parametrize(("every", "epochs"), [(0, [2]), (2, [2, 4]), (1, [2, 3, 4, 5]), (100, [2])])
def test_how_often_masks_are_renewed(tiny_config: Path, every: int, epochs: list[int]) -> None:
    assert bootstrap_epochs(load_config(str(tiny_config), [f"schedule.bootstrap_every_epochs={every}"])) == epochs


def _masks(folder: Path, photographs: Path, tiny_config: Path, *settings: str) -> list[Any]:
    prepare(folder, tiny_config, photographs, "schedule.warmup_epochs=0", *settings)
    for stage, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0)):
        run_stage(StageRequest(run=str(folder), stage=stage, cycle=cycle))  # type: ignore[arg-type]
    found = standing(open_run(str(folder)), "bootstrap-masks", 0)
    return [row for _, row in read_rows(folder / str(found.folder) / layout.MASKS)]


@pytest.fixture(scope="module")
def usual_masks(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> list[Any]:
    return _masks(tmp_path_factory.mktemp("usual") / "run", photographs, tiny_config)


@pytest.mark.parametrize(
    "setting", ["masks.layer=[layer2.1,layer3.0]", "masks.layer=layer3.1", "masks.clusters=3", "masks.crf=true"]
)
def test_a_switch_changes_the_masks(
    usual_masks: list[Any], tmp_path: Path, photographs: Path, tiny_config: Path, setting: str
) -> None:
    """Layers in k-means, the rule for K, CRF refinement."""
    if "crf" in setting:
        pytest.importorskip("pydensecrf", reason="dense CRF is an optional extra that needs a C++ compiler")
    found = _masks(tmp_path / "run", photographs, tiny_config, setting)
    assert len(found) == len(usual_masks)
    different = [not np.array_equal(own.labels, other.labels) for own, other in zip(found, usual_masks, strict=True)]
    assert all(different)
    if setting == "masks.clusters=3":
        assert {row.clusters for row in found} == {3}
        assert len({row.clusters for row in usual_masks}) > 1

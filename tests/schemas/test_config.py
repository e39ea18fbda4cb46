"""Settings: the paper's values, the rules between them, and what is said when one is broken."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas.architectures import ARCHITECTURES, BLOCKS, feature_grid, layer_names, layer_stride
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.loading import field_names, flatten, load_config, parse_config

PAPER = {
    "seed": 0,
    "network.architecture": "resnet50",
    "network.start": "random",
    "network.contrast_layers": ["layer2", "layer3", "layer4"],
    "network.region_grid": 7,
    "network.downsample": "area",
    "network.projector_hidden": 4096,
    "network.projection_dim": 256,
    "augmentation.crop_size": 224,
    "augmentation.crop_area": [0.08, 1.0],
    "augmentation.crop_ratio": [3 / 4, 4 / 3],
    "augmentation.flip_probability": 0.5,
    "augmentation.jitter_probability": 0.8,
    "augmentation.brightness": 0.4,
    "augmentation.contrast": 0.4,
    "augmentation.saturation": 0.2,
    "augmentation.hue": 0.1,
    "augmentation.grey_probability": 0.2,
    "augmentation.blur_probability": [1.0, 0.1],
    "augmentation.blur_kernel": 23,
    "augmentation.blur_sigma": [0.1, 2.0],
    "augmentation.solarize_probability": [0.0, 0.2],
    "augmentation.solarize_threshold": 0.5,
    "schedule.epochs": 800,
    "schedule.warmup_epochs": 5,
    "schedule.bootstrap_every_epochs": 100,
    "optimization.optimizer": "lars",
    "optimization.batch_size": 64,
    "optimization.learning_rate": 0.1,
    "optimization.weight_decay": 1.5e-6,
    "optimization.momentum": 0.9,
    "optimization.trust_coefficient": 0.001,
    "optimization.lr_warmup_epochs": 10,
    "optimization.lr_schedule": "step",
    "optimization.lr_milestones": [0.96, 0.98],
    "optimization.lr_decay": 0.1,
    "optimization.ema_momentum": 0.996,
    "vmf.clusters": [8, 8],
    "vmf.concentration": 10,
    "vmf.distance": "vmf",
    "vmf.branches": "symmetric",
    "vmf.correspondence": "geometric",
    "masks.layer": ["layer2.2"],
    "masks.clusters": [2, 256],
    "masks.images_per_group": 16,
    "masks.max_side": 640,
    "masks.iterations": 20,
    "masks.points_per_cluster": 256,
    "masks.refresh_batch_norm": 0,
    "train.temperature": 0.1,
    "train.regions": 16,
    "train.region_sampling": "independent",
    "train.vmf_every_epochs": 5,
    "train.vmf_weight": 0.1,
    "train.vmf_update": "joint",
}
"""Written from the paper and docs/method.md, not from the code."""


def test_the_defaults_are_the_papers() -> None:
    found = flatten(RunConfig())
    assert {name: found.get(name) for name in PAPER} == PAPER


def models(model: type[BaseModel] = RunConfig) -> list[type[BaseModel]]:
    nested = [f.annotation for f in model.model_fields.values()]
    return [model] + [m for n in nested if isinstance(n, type) and issubclass(n, BaseModel) for m in models(n)]


def test_every_setting_says_what_it_means() -> None:
    bare = [
        f"{model.__name__}.{name}"
        for model in models()
        for name, field in model.model_fields.items()
        if not field.description
        and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    assert bare == []


def test_a_config_cannot_be_changed_in_place() -> None:
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.train.temperature = 3


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree, where="config x")
    message = str(caught.value)
    assert message.startswith("config x: ")
    assert "\n" not in message, "one mistake is one line"
    return message


RESNET18 = {"network": {"architecture": "resnet18"}}

MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"masks": {"clusters": [2, 300]}}, ["masks.clusters", "300", "256"]),
    ({"masks": {"clusters": [1, 8]}}, ["masks.clusters", "1", "2"]),
    ({"masks": {"clusters": [9, 3]}}, ["masks.clusters", "9..3"]),
    ({"masks": {"clusters": [2, 8, 9]}}, ["masks.clusters"]),
    ({"masks": {"clusters": "many"}}, ["masks.clusters", "many"]),
    ({"vmf": {"clusters": 1}}, ["vmf.clusters", "1"]),
    ({"schedule": {"epochs": -1}}, ["schedule.epochs", "-1"]),
    ({"schedule": {"epochs": 0}}, ["schedule.epochs", "0"]),
    ({"schedule": {"epochs": 2.5}}, ["schedule.epochs", "2.5"]),
    ({"schedule": {"warmup_epochs": -1}}, ["schedule.warmup_epochs", "-1"]),
    ({"schedule": {"bootstrap_every_epochs": -5}}, ["schedule.bootstrap_every_epochs", "-5"]),
    ({"schedule": {"epochs": 800, "warmup_epochs": 800}}, ["schedule.epochs", "800", "schedule.warmup_epochs"]),
    ({"schedule": {"epochs": 9}}, ["optimization.lr_warmup_epochs", "10", "schedule.epochs 9"]),
    ({"schedule": {"checkpoint_epochs": [5, 900]}}, ["schedule.checkpoint_epochs", "900", "800"]),
    (RESNET18, ["masks.layer", "resnet18", "layer2.2", "layer2.1"]),
    ({"network": {"contrast_layers": ["layer2", "layer5"]}}, ["network.contrast_layers", "layer5", "layer4"]),
    ({"network": {"contrast_layers": ["layer2", "layer2"]}}, ["network.contrast_layers", "twice"]),
    ({"network": {"contrast_layers": []}}, ["network.contrast_layers"]),
    ({"network": {"architecture": "vgg16"}}, ["network.architecture", "vgg16", "resnet50"]),
    ({"augmentation": {"crop_size": 225}}, ["augmentation.crop_size", "225", "network.region_grid 7", "224", "231"]),
    ({"augmentation": {"crop_area": [0, 1]}}, ["augmentation.crop_area", "0"]),
    ({"augmentation": {"crop_area": [0.9, 0.1]}}, ["augmentation.crop_area", "0.9..0.1"]),
    ({"augmentation": {"crop_ratio": [0, 1]}}, ["augmentation.crop_ratio"]),
    ({"augmentation": {"blur_kernel": 8}}, ["augmentation", "blur_kernel 8", "9"]),
    ({"augmentation": {"flip_probability": 1.5}}, ["augmentation.flip_probability", "1.5"]),
    ({"optimization": {"batch_size": 1}}, ["optimization.batch_size", "1", "2"]),
    ({"optimization": {"batch_size": 64}, "numerics": {"world_size": 3}}, ["optimization.batch_size", "world_size 3"]),
    ({"optimization": {"batch_size": 64}, "numerics": {"world_size": 4, "accumulation": 5}}, ["accumulation 5"]),
    ({"numerics": {"accumulation": 2}, "vmf": {"branches": "paper"}}, ["numerics.accumulation 2", "vmf.branches"]),
    ({"numerics": {"world_size": 2}, "placement": {"launcher": "inline"}}, ["placement.launcher", "world_size"]),
    ({"optimization": {"learning_rate": float("nan")}}, ["optimization.learning_rate"]),
    ({"optimization": {"learning_rate": 0}}, ["optimization.learning_rate", "0"]),
    ({"masks": {"rows_per_shard": 100}}, ["masks", "rows_per_shard 100", "16"]),
    ({"masks": {"rows_per_shard": 16, "images_per_group": 24}}, ["rows_per_shard 16", "images_per_group 24"]),
    ({"train": {"temperature": 0}}, ["train.temperature", "0"]),
    ({"train": {"temperatur": 1}}, ["train.temperatur", "train.temperature?"]),
    ({"temperature": 1}, ["temperature", "train.temperature?"]),
    ({"trian": {"temperature": 1}}, ["trian"]),
    ({"zzz": {"qqq": 1}}, ["zzz", "cyborgs plan"]),
    ({"train": 5}, ["train", "5"]),
    ({"seed": -1}, ["seed", "-1"]),
    ({"index": {"max_broken_fraction": 1}}, ["index.max_broken_fraction", "1"]),
]


@pytest.mark.parametrize(("tree", "parts"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_names_setting_value_and_way_out(tree: dict[str, Any], parts: list[str]) -> None:
    message = refused(tree)
    assert [part for part in parts if part not in message] == [], message


def test_every_mistake_has_a_line_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"seed": -1, "train": {"temperature": 0, "nonsense": 1}}, where="config x")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("config x: ") for line in lines)


@pytest.mark.parametrize(
    ("given", "held"), [(8, (8, 8)), ([2, 256], (2, 256)), ([2, 2], (2, 2)), (256, (256, 256)), (2, (2, 2))]
)
def test_a_number_stands_for_a_range_and_both_ends_are_allowed(given: Any, held: tuple[int, int]) -> None:
    assert RunConfig.model_validate({"masks": {"clusters": given}}).masks.clusters == held


def test_one_layer_or_several() -> None:
    assert RunConfig.model_validate({"masks": {"layer": "layer3"}}).masks.layer == ("layer3",)
    assert RunConfig.model_validate({"masks": {"layer": ["layer2", "layer3.5"]}}).masks.layer == ("layer2", "layer3.5")


@pytest.mark.parametrize("broken", [{"masks": {"clusters": [2, 300]}}, RESNET18])
def test_the_error_is_also_a_value_error(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse_config(broken, where="x")


def test_layers_of_the_networks() -> None:
    assert set(BLOCKS) == set(ARCHITECTURES)
    resnet18 = [f"layer{n}{block}" for n in (1, 2, 3, 4) for block in ("", ".0", ".1")]
    assert layer_names("resnet18") == resnet18
    assert "layer3.5" in layer_names("resnet50")
    assert "layer3.6" not in layer_names("resnet50")
    assert "layer3.22" in layer_names("resnet101")


def test_strides_and_grids() -> None:
    assert [layer_stride(name) for name in ("layer1", "layer2", "layer2.1", "layer3.22", "layer4")] == [4, 8, 8, 16, 32]
    assert feature_grid(224, 224, 32) == (7, 7)
    assert feature_grid(97, 96, 8) == (13, 12), "every halving rounds up"


def test_shipped_names_load_and_say_how_to_see_all() -> None:
    assert len(field_names(RunConfig)) == len(flatten(RunConfig())) == len(set(field_names(RunConfig)))
    assert flatten(load_config("coco"))["optimization.batch_size"] == 64


def test_masks_that_are_made_once_have_none_to_be_held_against() -> None:
    with pytest.raises(ValidationError, match=r"source grid: .*keep_if_worse 0.5 .*set keep_if_worse=0"):
        RunConfig.model_validate({"masks": {"source": "grid", "keep_if_worse": 0.5}})

"""Weights of files: recognised by their keys, whatever is around them."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from cyborgs.networks.backbone import Backbone
from cyborgs.random_streams import stream_seed
from schemas.architectures import ARCHITECTURES
from schemas.errors import ConfigError
from schemas.results import UsedWeights
from schemas.stages import StageRequest
from stages.execute import run_stage
from stages.weights import Weights, backbone_digest, load_weights
from tests.pipeline import prepare


def load(source: object) -> Weights:
    return load_weights(str(source), architecture="resnet50", seed=0)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_the_architecture_is_told_by_names_and_shapes(tmp_path: Path, architecture: str) -> None:
    assert architecture in ARCHITECTURES
    network = torchvision.models.get_model(architecture, weights=None)
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    found = load(tmp_path / "whole.pth")
    assert found.used.architecture == architecture
    assert found.used.left_out == ("fc.bias", "fc.weight")
    assert found.used.used == len(found.backbone.state_dict())
    for name, tensor in found.backbone.state_dict().items():
        assert tensor.equal(network.state_dict()[name]), name


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder_q.", "online.backbone."])
def test_a_wrapper_around_the_backbone_is_taken_off(tmp_path: Path, prefix: str) -> None:
    backbone = Backbone("resnet18", seed=1)
    tensors = {f"{prefix}{name}": tensor for name, tensor in backbone.state_dict().items()}
    save_file(tensors | {"head.weight": torch.zeros(2)}, tmp_path / "wrapped.safetensors")
    found = load(tmp_path / "wrapped.safetensors")
    assert found.used.digest == backbone_digest(backbone)
    assert found.used.left_out == ("head.weight",)


def test_files_older_than_batch_norms_counter(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", seed=1)
    old = {name: t for name, t in backbone.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    found = load(tmp_path / "old.pth")
    assert (found.used.architecture, found.used.used) == ("resnet18", 100)


def test_runs_are_of_a_kind_where_their_seeds_alone_differ(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    fewer = Path(shutil.copytree(photographs, tmp_path / "fewer"))
    sorted(fewer.iterdir())[0].unlink()

    def kind(name: str, data: Path, *settings: str) -> str:
        prepare(tmp_path / name, tiny_config, data, *settings)
        for stage in ("index-images", "warm-up"):
            run_stage(StageRequest(run=str(tmp_path / name), stage=stage))  # type: ignore[arg-type]
        return load(tmp_path / name).used.kind

    first = kind("first", photographs, "seed=0")
    assert kind("second", photographs, "seed=1", "placement.log_every_steps=7") == first
    assert kind("other settings", photographs, "seed=1", "train.temperature=0.2") != first
    assert kind("other photographs", fewer, "seed=1") != first


def test_random_weights_are_a_runs_start() -> None:
    """The same seed gives the backbone that a run of that seed starts from."""
    found = load_weights("random", architecture="resnet18", seed=7)
    assert isinstance(found.used, UsedWeights)
    assert found.used.digest == backbone_digest(Backbone("resnet18", seed=stream_seed("backbone", 7)))
    assert found.used.digest != load_weights("random", architecture="resnet18", seed=8).used.digest


def test_files_that_are_no_backbone(tmp_path: Path) -> None:
    tensors = Backbone("resnet18", seed=0).state_dict()
    del tensors["layer3.0.bn1.weight"]
    torch.save(tensors, tmp_path / "less.pth")
    with pytest.raises(ConfigError, match=re.escape("nearest is resnet18, with 1 keys")) as caught:
        load(tmp_path / "less.pth")
    assert "layer3.0.bn1.weight" in str(caught.value)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="its keys make up no ResNet"):
        load(tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="only a run has cycles"):
        load_weights(str(tmp_path / "less.pth"), architecture="resnet18", seed=0, cycle=1)

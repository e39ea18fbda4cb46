"""Exports loaded back by the real libraries, and held against the layouts of those that are not here."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from cli.main import main
from cyborgs.networks.backbone import Backbone
from schemas.architectures import ARCHITECTURES
from schemas.errors import ConfigError
from stages import exports
from stages.comparison import read_result
from stages.exports import ExportCheckError, check_export, encode, export_backbone, to_library
from stages.layouts import published_layout
from stages.weights import encoder_tensors, trained
from storage.artifacts import load_artifact
from storage.run import open_run
from tests.conftest import draw_scene


@pytest.fixture(scope="module")
def weights(tiny_run: Path) -> dict[str, Tensor]:
    """The run's last online backbone."""
    run = open_run(str(tiny_run))
    return encoder_tensors(load_artifact(run, trained(run)), "online")


def export(tiny_run: Path, form: str, file: Path, **options: Any) -> str:
    written = export_backbone(open_run(str(tiny_run)), form, file, **options)
    assert written.file.is_file()
    return written.card.read_text()


def features(network: nn.Module) -> Tensor:
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = network.eval()(images)
    return found


def own_features(weights: dict[str, Tensor]) -> Tensor:
    """By the network that was trained."""
    backbone = Backbone("resnet18", seed=5)
    backbone.load_state_dict(weights)
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone.eval()(images, ["layer4"])["layer4"].mean(dim=(2, 3))


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors"])
def test_torchvision_gives_equal_features(
    tiny_run: Path, weights: dict[str, Tensor], tmp_path: Path, name: str
) -> None:
    card = export(tiny_run, "torchvision", tmp_path / name)
    read = load_file if name.endswith("safetensors") else torch.load
    network = torchvision.models.resnet18()
    missing, unexpected = network.load_state_dict(read(tmp_path / name), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    network.fc = nn.Identity()
    torch.testing.assert_close(features(network), own_features(weights), atol=1e-5, rtol=1e-5)
    assert "loaded back by torchvision" in card


def test_timm_gives_equal_features_by_its_own_loading(
    tiny_run: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    for name in ("mine.pth", "mine.safetensors"):
        card = export(tiny_run, "timm", tmp_path / name)
        network = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(tmp_path / name))
        torch.testing.assert_close(features(network), own_features(weights), atol=1e-5, rtol=1e-5)
        assert "loaded back by timm" in card


def test_mask_rcnn_starts_from_the_export(tiny_run: Path, weights: dict[str, Tensor], tmp_path: Path) -> None:
    export(tiny_run, "torchvision", tmp_path / "mine.pth")
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    detector = MaskRCNN(backbone, num_classes=3, min_size=64, max_size=96)
    missing, unexpected = detector.backbone.body.load_state_dict(torch.load(tmp_path / "mine.pth"), strict=False)
    assert (missing, unexpected) == ([], [])
    for name, tensor in detector.backbone.body.state_dict().items():
        assert tensor.equal(weights[name]), name
    images = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))]
    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[0, 10:40, 10:50] = 1
    target = {"boxes": torch.tensor([[10.0, 10, 50, 40]]), "labels": torch.tensor([1]), "masks": masks}
    losses = detector.train()(images, [target])
    assert "loss_mask" in losses
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_target_encoder_and_cycle(tiny_run: Path, tmp_path: Path) -> None:
    files = []
    for number, options in enumerate(({}, {"encoder": "target"}, {"cycle": 0})):
        card = export(tiny_run, "safetensors", tmp_path / f"{number}.safetensors", **options)
        files.append(load_file(tmp_path / f"{number}.safetensors"))
        assert ("target encoder" if number == 1 else "online encoder") in card
        assert ("train cycle 0" if number == 2 else "train cycle 1") in card
    assert files[0].keys() == files[1].keys() == files[2].keys()
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert not files[one]["conv1.weight"].equal(files[two]["conv1.weight"])


def test_the_card_says_what_a_stranger_needs(tiny_run: Path, tmp_path: Path) -> None:
    run = open_run(str(tiny_run))
    card = export(tiny_run, "detectron2", tmp_path / "mine.pth")
    for part in (
        "CYBORGS", "resnet18", run.record.config_digest, "18 photographs", "0.485", "RGB", "projection std",
        "network.architecture: resnet18", "published layout", "the library itself was not run", 'WEIGHTS: "mine.pth"',
        "PIXEL_MEAN: [123.675, 116.28, 103.53]", "DEPTH: 18",
    ):  # fmt: skip
        assert part in card, part
    assert str(tmp_path) not in card


def detectron2_model(layers: list[int]) -> nn.Module:
    """detectron2's modules as its source names them, for basic blocks: Conv2d with a child `norm`."""

    def convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
        module = nn.Conv2d(inputs, outputs, kernel, bias=False)
        module.add_module("norm", nn.BatchNorm2d(outputs))
        return module

    model, stem = nn.Module(), nn.Module()
    stem.add_module("conv1", convolution(3, 64, 7))
    model.add_module("stem", stem)
    inputs = 64
    for number, blocks in enumerate(layers):
        stage, outputs = nn.Sequential(), 64 * 2**number
        for _ in range(blocks):
            block = nn.Module()
            block.add_module("conv1", convolution(inputs, outputs, 3))
            block.add_module("conv2", convolution(outputs, outputs, 3))
            if inputs != outputs:
                block.add_module("shortcut", convolution(inputs, outputs, 1))
            stage.append(block)
            inputs = outputs
        model.add_module(f"res{number + 2}", stage)
    return model


def test_detectron2_file_has_its_keys_and_the_same_tensors(
    tiny_run: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    export(tiny_run, "detectron2", tmp_path / "mine.pth")
    file = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert file["matching_heuristics"] is True
    expected = {
        name: tensor.shape
        for name, tensor in detectron2_model([2, 2, 2, 2]).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert {name: tensor.shape for name, tensor in file["model"].items()} == expected
    pairs = {
        "stem.conv1.weight": "conv1.weight",
        "stem.conv1.norm.running_var": "bn1.running_var",
        "res3.0.shortcut.weight": "layer2.0.downsample.0.weight",
        "res3.0.shortcut.norm.bias": "layer2.0.downsample.1.bias",
        "res5.1.conv2.norm.weight": "layer4.1.bn2.weight",
        "res2.1.conv1.weight": "layer1.1.conv1.weight",
    }
    for theirs, ours in pairs.items():
        assert file["model"][theirs].equal(weights[ours]), theirs


def test_mmdet_file_has_torchvisions_keys(tiny_run: Path, weights: dict[str, Tensor], tmp_path: Path) -> None:
    card = export(tiny_run, "mmdet", tmp_path / "mine.pth")
    file = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert file["state_dict"].keys() == weights.keys()
    assert "bgr_to_rgb=True" in card


def test_published_layouts_of_every_architecture() -> None:
    """Written from the libraries' sources; here against what torchvision and timm really have."""
    for architecture in ARCHITECTURES:
        with torch.device("meta"):
            real = Backbone(architecture, seed=0).state_dict()
            in_timm = timm.create_model(architecture, pretrained=False, num_classes=0).state_dict()
        for library, tensors in (("torchvision", real), ("timm", in_timm)):
            shapes = {n: tuple(t.shape) for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
            assert published_layout(library, architecture) == shapes, (library, architecture)
        renamed = to_library("detectron2", real)
        assert {n: tuple(t.shape) for n, t in renamed.items()} == published_layout("detectron2", architecture)


@pytest.mark.parametrize(
    ("form", "name"),
    [("torchvision", "mine.pth"), ("timm", "mine.safetensors"), ("mmdet", "mine.pth"), ("detectron2", "mine.pth")],
)
def test_what_a_library_would_not_read_is_not_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str
) -> None:
    """The file itself is what is checked: here its encoding goes wrong."""

    def wrong(form: str, suffix: str, tensors: dict[str, Tensor], architecture: str) -> bytes:
        return encode(form, suffix, {re.sub("(layer|res)3", r"\g<1>7", n): t for n, t in tensors.items()}, architecture)

    monkeypatch.setattr(exports, "encode", wrong)
    with pytest.raises(ExportCheckError, match="would not read"):
        export(tiny_run, form, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["torchvision", "timm", "safetensors"])
def test_other_features_than_those_of_the_network_that_was_trained_are_noticed(
    weights: dict[str, Tensor], tmp_path: Path, form: str
) -> None:
    scaled = {name: tensor * 1.001 if name == "layer4.1.bn2.weight" else tensor for name, tensor in weights.items()}
    file = tmp_path / "mine.safetensors"
    file.write_bytes(encode(form, file.suffix, scaled, "resnet18"))
    with pytest.raises(ExportCheckError, match="features differ"):
        check_export(form, "resnet18", file, weights)


def test_a_safetensors_file_says_what_it_is(tiny_run: Path, tmp_path: Path) -> None:
    export(tiny_run, "safetensors", tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["format"] == "pt"
    assert (facts["architecture"], facts["channels"]) == ("resnet18", "RGB")
    assert facts["mean"] == "[0.485, 0.456, 0.406]"


def test_the_card_has_figures_of_these_weights_alone(tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "knn", "--weights", str(tiny_run), "--data", str(image_folder(tmp_path / "labelled"))]
    for encoder in ("online", "target"):
        out = ["--out", str(tmp_path / f"{encoder}.json"), "--encoder", encoder]
        assert main([*arguments, *out, "--set", "resize=64", "crop=64", "neighbours=[1]", "threads=1"]) == 0
    target = read_result(tmp_path / "target.json")
    card = export(tiny_run, "timm", tmp_path / "mine.pth", encoder="target", results=[target])
    assert "looks at the online encoder and not at this one" in card
    assert "`knn` on `labelled` (6 of train, 3 of val photographs):" in card
    assert f"| accuracy 1 | {target.figures['accuracy_1']} |" in card
    assert "not at this one" not in export(tiny_run, "timm", tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match="--figures: knn of tiny, cycle 1, target .* measured other weights"):
        export(tiny_run, "timm", tmp_path / "other.pth", results=[target])
    assert not (tmp_path / "other.pth").exists()


def image_folder(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for kind in ("a", "b", "c"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                draw_scene(random, 64, 64).save(root / split / kind / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("onnx", "mine.pth", "choose from"),
        ("detectron2", "mine.pkl", "detectron2 reads .pth"),
        ("safetensors", "mine.pth", "reads .safetensors"),
        ("torchvision", "nowhere/mine.pth", "does not exist"),
    ],
)
def test_what_cannot_be_written_says_so(tiny_run: Path, tmp_path: Path, form: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        export(tiny_run, form, tmp_path / name)
    assert list(tmp_path.iterdir()) == []

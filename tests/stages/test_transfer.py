"""`cyborgs evaluate` by the protocols that fine-tune: on drawn scenes, and on real photographs with smoke settings."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from cli.main import main
from cyborgs.distributed import World
from cyborgs.networks.backbone import Backbone
from cyborgs.transfer.detectors import Sizes, faster_rcnn_c4, mask_rcnn_fpn
from cyborgs.transfer.object_scores import average_precisions
from schemas.errors import ConfigError, DataError, PreemptedError, RunError
from schemas.fine_tuning import FineTuningSettings
from schemas.planned_protocols import TRANSFER_NAMES, TransferName
from schemas.protocols import load_protocol
from schemas.results import ProtocolResult
from stages.attempt import Attempt, beside, partial_file
from stages.fine_tuning import check_batch
from stages.interruption import StopRequest
from stages.protocols import evaluate_protocol
from stages.readers.coco_objects import coco_objects
from stages.weights import load_weights
from storage.checkpoints import decode_tensors
from tests.convert_coco import convert

SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
DETECTOR = ["short_sides=[64,96]", "max_side=96", "min_score=0.0", "most_detections=10", "regions=8", "proposals=20"]
FCN = ["long_side=96", "short_side=64", "crop=64", "classes=10"]
SETTINGS: dict[TransferName, list[str]] = {
    "imagenet-semi": ["crop=48", "resize=56", "epochs=2"],
    "voc-detection": [*DETECTOR, "train=[VOC2007/trainval]"],
    "coco-instance": DETECTOR,
    "lvis-instance": DETECTOR,
    "cityscapes-fcn": [*FCN, "classes=19", "window=64", "window_stride=32"],
    "cocostuff-fcn": [*FCN, "train=train2017", "test=val2017"],
}
FIGURES = {
    "imagenet-semi": {"top1", "top5"},
    "voc-detection": {"box_ap", "box_ap50", "box_ap75"},
    "coco-instance": {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"},
    "lvis-instance": {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"},
    "cityscapes-fcn": {"miou", "pixel_accuracy"},
    "cocostuff-fcn": {"miou", "pixel_accuracy"},
}
LAYOUTS = {
    "imagenet-semi": "image-folder",
    "voc-detection": "voc",
    "lvis-instance": "lvis",
    "cityscapes-fcn": "cityscapes",
    "cocostuff-fcn": "label-maps",
}
KINDS: tuple[TransferName, ...] = ("imagenet-semi", "coco-instance", "cocostuff-fcn")
"""One of each network."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, coco: Path) -> dict[str, Path]:
    """Protocol -> its data, in the layout that it reads."""
    out = tmp_path_factory.mktemp("converted")
    convert(coco, out)
    return {name: out / LAYOUTS[name] if name in LAYOUTS else coco for name in TRANSFER_NAMES}


def measure(
    name: TransferName, root: Path, *settings: str, attempt: Attempt | None = None, **options: Any
) -> ProtocolResult:
    quick = ["architecture=resnet18", "threads=1", "batch_size=2", "warmup_steps=1", "refresh_batch_norm=1"]
    steps = [] if name == "imagenet-semi" else ["steps=3"]
    own = load_protocol(name, [*quick, *steps, *SETTINGS[name], *settings])
    return evaluate_protocol(name, own, weights="random", data=str(root), attempt=attempt or Attempt(), **options)


@pytest.mark.parametrize("name", TRANSFER_NAMES)
def test_a_result_says_what_was_measured_and_comes_out_again(name: TransferName, data: dict[str, Path]) -> None:
    if name == "lvis-instance":
        pytest.importorskip("lvis", reason="the optional package lvis is not installed")
    told: list[str] = []
    first = measure(name, data[name], attempt=Attempt(tell=told.append))
    assert "keys" in told[0]
    assert FIGURES[name] <= first.figures.keys()
    assert all(0 <= first.figures[figure] <= 100 for figure in FIGURES[name])
    assert ProtocolResult.model_validate_json(first.model_dump_json()) == first
    half = measure(name, data[name], "labels=0.5")
    assert half.figures["learnt_from"] == pytest.approx(first.figures["learnt_from"] / 2, abs=1.5)
    again = measure(name, data[name], "labels=0.5", "workers=2")
    assert again.figures == half.figures
    assert again.settings == half.settings
    assert (half.data.digest, half.data.photographs) != (first.data.digest, first.data.photographs)


@pytest.mark.parametrize("name", KINDS)
def test_a_stopped_fine_tuning_goes_on_to_equal_tensors(
    name: TransferName, data: dict[str, Path], tmp_path: Path
) -> None:
    settings = ["steps=3", "max_images=4"]
    measure(name, data[name], *settings, attempt=Attempt(network_file=tmp_path / "whole.safetensors"))
    read, save, forget = beside(tmp_path / "metrics.json")

    def attempt(stop: StopRequest) -> Attempt:
        return Attempt(stop=stop, kept=read, keep=save, network_file=tmp_path / "broken.safetensors", tell=told.append)

    told: list[str] = []
    asked = StopRequest()
    asked.ask()
    for step in (1, 2):
        with pytest.raises(PreemptedError):
            measure(name, data[name], *settings, attempt=attempt(asked))
        assert decode_tensors(read() or b"")[1]["step"] == step
    done = measure(name, data[name], *settings, attempt=attempt(StopRequest()))
    assert "goes on from step 2" in told
    whole, broken = (decode_tensors((tmp_path / f"{each}.safetensors").read_bytes()) for each in ("whole", "broken"))
    assert whole[1] == broken[1]
    assert whole[0].keys() == broken[0].keys()
    assert all(tensor.equal(broken[0][key]) for key, tensor in whole[0].items())
    # What stands there is of the end: it is measured again without a step.
    assert measure(name, data[name], *settings, attempt=attempt(StopRequest())).figures == done.figures
    measure(name, data[name], "steps=2", "max_images=4", attempt=attempt(StopRequest()))
    assert "what was saved is of other settings, weights or data: it starts anew" in told
    forget()
    assert not partial_file(tmp_path / "metrics.json").exists()


def test_a_damaged_state_starts_anew(data: dict[str, Path], tmp_path: Path) -> None:
    read, save, _ = beside(tmp_path / "metrics.json")
    partial_file(tmp_path / "metrics.json").write_bytes(b"cut off")
    done = measure("cocostuff-fcn", data["cocostuff-fcn"], attempt=Attempt(kept=read, keep=save))
    assert done.figures == measure("cocostuff-fcn", data["cocostuff-fcn"]).figures


def test_a_rate_that_is_too_high_is_one_line(data: dict[str, Path]) -> None:
    with pytest.raises(RunError, match=r"^cocostuff-fcn: .* is not finite at step \d+: set a lower learning_rate"):
        measure("cocostuff-fcn", data["cocostuff-fcn"], "learning_rate=1e30", "steps=6", "warmup_steps=0")


def test_bad_input_is_one_line(data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"a label map holds the value \d, and `classes` is 2: raise it"):
        measure("cocostuff-fcn", data["cocostuff-fcn"], "classes=2")
    with pytest.raises(DataError, match=r"the list .*missing\.txt is missing"):
        measure("imagenet-semi", data["imagenet-semi"], "image_list=missing.txt")
    with pytest.raises(ConfigError, match="milestones"):
        measure("voc-detection", data["voc-detection"], "milestones=[0.9,0.2]")
    with pytest.raises(DataError, match="has a folder"):
        measure("cityscapes-fcn", tmp_path)
    arguments = ["evaluate", "knn", "--weights", "random", "--data", str(tmp_path), "--network", "x.safetensors"]
    assert main(arguments) == 2
    assert "knn fine-tunes nothing" in capsys.readouterr().err


def test_a_batch_that_processes_cannot_share_is_refused(data: dict[str, Path]) -> None:
    own = load_protocol("coco-instance", ["batch_size=2"])
    assert isinstance(own, FineTuningSettings)
    check_batch(own, World(0, 2))
    with pytest.raises(ConfigError, match="batch_size 2 cannot be shared by 3 processes"):
        check_batch(own, World(0, 3))
    with pytest.raises(ConfigError, match="warmup_steps 1000 of 900 steps"):
        load_protocol("coco-instance", ["steps=900"])


def test_boxes_are_float32_where_the_networks_are_not(data: dict[str, Path]) -> None:
    """A box beyond 512 pixels is off by up to two of them in bfloat16."""
    for build in (faster_rcnn_c4, mask_rcnn_fpn):
        torch.manual_seed(0)
        sizes = Sizes([64], 96, 8, 20, 0.0, 10)
        detector = build(Backbone("resnet18", seed=0), 3, sizes, bfloat16=True).eval()
        seen: list[torch.dtype] = []
        detector.rpn.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out[0][0].dtype))
        inner = detector.backbone.get_submodule("layer1" if build is faster_rcnn_c4 else "body.layer1")
        inner.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.dtype))
        with torch.no_grad():
            (found,) = detector([torch.rand(3, 64, 96)])
        assert seen == [torch.bfloat16, torch.float32]
        assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_a_json_that_leaves_out_what_scores_ask_for(coco: Path, tmp_path: Path) -> None:
    """No iscrowd, no area, numbers from 0: measured as with all of them."""
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).symlink_to(coco / split)
        tree = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
        for number, annotation in enumerate(tree["annotations"]):
            del annotation["iscrowd"], annotation["area"], annotation["bbox"]
            annotation["id"] = number
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    lean = coco_objects(tmp_path, "val2017").truth()
    whole = coco_objects(coco, "val2017").truth()
    for one, two in zip(lean["annotations"], whole["annotations"], strict=True):
        assert one["id"] == two["id"] > 0
        assert (list(map(float, one["bbox"])), one["area"]) == (list(map(float, two["bbox"])), two["area"])
    found = [
        {"score": 0.9, **{key: each[key] for key in ("image_id", "category_id", "bbox")}}
        for each in whole["annotations"]
    ]
    assert average_precisions(lean, found, "bbox")["ap"] == pytest.approx(100)


def test_photographs_of_another_size_than_the_json_says(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(coco / "val2017")
    tree = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    tree["images"][0] |= {"width": 64, "height": 96}
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"000000000000.jpg is 64 x 96 there, .* has 96 x 64 pixels when upright"):
        _ = coco_objects(tmp_path, "val2017", shapes=False).samples[0]


def test_boxes_alone_train_faster_rcnn(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).symlink_to(coco / split)
        tree = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
        for annotation in tree["annotations"]:
            del annotation["segmentation"]
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"nothing to learn from .* objects without a segmentation .*masks=false"):
        measure("coco-instance", tmp_path)
    result = measure("coco-instance", tmp_path, "masks=false")
    assert "box_ap50" in result.figures
    assert not any(name.startswith("mask") for name in result.figures)


def test_a_torchvision_state_dict_loads_with_no_unexpected_key(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    used = load_weights(str(tmp_path / "resnet50.pth"), architecture="resnet18", seed=0).used
    assert (used.architecture, used.used, used.left_out) == ("resnet50", 318, ("fc.bias", "fc.weight"))


@pytest.mark.slow
@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no photographs to learn from")
@pytest.mark.parametrize(
    "name",
    [name if name in KINDS else pytest.param(name, marks=pytest.mark.many) for name in TRANSFER_NAMES],
)
def test_smoke_on_real_photographs_takes_less_than_three_minutes(
    name: TransferName, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if name == "lvis-instance":
        pytest.importorskip("lvis", reason="the optional package lvis is not installed")
    assert SAMPLES is not None
    root, out = Path(SAMPLES) / "coco-mini", tmp_path_factory.getbasetemp() / "transfer-data"
    if not out.exists():
        convert(root, out)
    folder = out / LAYOUTS[name] if name in LAYOUTS else root
    own = load_protocol(name, smoke=True)
    result = evaluate_protocol(name, own, weights="random", data=str(folder), smoke=True, attempt=Attempt())
    assert result.seconds is not None and result.seconds < 180
    assert FIGURES[name] <= result.figures.keys()

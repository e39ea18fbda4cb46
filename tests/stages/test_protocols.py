"""`cyborgs evaluate` from end to end: on drawn scenes quickly, on real photographs with the smoke settings."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli.main import main
from cyborgs.evaluation.frozen import BackboneChangedError, Figures
from cyborgs.networks.backbone import Backbone
from flows.prepare import prepare_run
from schemas.errors import ConfigError, DataError, PreemptedError
from schemas.loading import change_config, load_config
from schemas.planned_protocols import FROZEN_NAMES, FrozenName, ProtocolName
from schemas.protocols import load_protocol
from schemas.results import ProtocolResult
from schemas.stages import StageRequest
from stages import measured, measurements, protocols
from stages.attempt import Attempt
from stages.comparison import read_result
from stages.execute import run_stage
from stages.protocols import evaluate_protocol
from stages.readers.coco_objects import coco_objects
from storage import layout
from storage.artifacts import standing
from storage.run import open_run
from tests.convert_coco import convert
from tests.pipeline import prepare, run_all

SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
SETTINGS: dict[ProtocolName, list[str]] = {
    "mask-quality": ["max_side=96", "clusters=4"],
    "region-linear": ["max_side=96", "layer=layer2", "iterations=300"],
    "voc07-svm": ["resize=64", "crop=64"],
    "cocostuff-linear": ["max_side=96", "epochs=2", "learning_rate=0.05"],
    "knn": ["resize=64", "crop=64", "neighbours=[1,3]"],
}
FIGURES = {
    "mask-quality": "best_iou",
    "region-linear": "accuracy",
    "voc07-svm": "map",
    "cocostuff-linear": "miou",
    "knn": "accuracy_1",
}
LAYOUTS = {"voc07-svm": "voc", "cocostuff-linear": "label-maps", "knn": "image-folder"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, coco: Path) -> dict[str, Path]:
    """Protocol -> its data, in the layout that it reads."""
    out = tmp_path_factory.mktemp("converted")
    convert(coco, out)
    return {name: out / LAYOUTS[name] if name in LAYOUTS else coco for name in FROZEN_NAMES}


def measure(name: ProtocolName, root: Path, *settings: str, weights: str = "random", **options: Any) -> ProtocolResult:
    own = load_protocol(name, ["architecture=resnet18", "threads=1", *SETTINGS[name], *settings])
    told: list[str] = []
    result = evaluate_protocol(name, own, weights=weights, data=str(root), attempt=Attempt(tell=told.append), **options)
    assert "keys" in told[0]
    return result


@pytest.mark.parametrize("name", FROZEN_NAMES)
def test_a_result_says_what_was_measured_and_comes_out_again(name: ProtocolName, data: dict[str, Path]) -> None:
    first, again = measure(name, data[name]), measure(name, data[name])
    assert first.figures == again.figures
    assert first.data.digest == again.data.digest
    assert first.weights.digest == again.weights.digest
    assert 0 < first.figures[FIGURES[name]] <= 100
    assert first.seeds == {"protocol": 0, "weights": 0}
    assert (first.weights.name, first.weights.used) == ("random resnet18", 120)
    assert set(first.data.photographs.values()) == {12}
    assert ProtocolResult.model_validate_json(first.model_dump_json()) == first
    other = measure(name, data[name], "seed=1")
    assert other.weights.digest != first.weights.digest
    assert other.data.digest == first.data.digest
    assert other.settings == first.settings


@pytest.mark.parametrize("name", FROZEN_NAMES)
def test_max_images_takes_the_first_and_changes_the_data_digest(name: ProtocolName, data: dict[str, Path]) -> None:
    few = measure(name, data[name], "max_images=9")
    assert set(few.data.photographs.values()) == {9}
    assert few.data.digest != measure(name, data[name]).data.digest


def test_labels_that_change_change_the_data_digest(tmp_path: Path, data: dict[str, Path]) -> None:
    before = measure("cocostuff-linear", data["cocostuff-linear"], "epochs=1")
    for source in data["cocostuff-linear"].rglob("*"):
        if source.is_file():
            place = tmp_path / source.relative_to(data["cocostuff-linear"])
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())
    assert measure("cocostuff-linear", tmp_path, "epochs=1").data.digest == before.data.digest
    changed = next((tmp_path / "annotations" / "val2017").glob("*.png"))
    Image.fromarray(np.full((64, 96), 1, np.uint8)).save(changed)
    assert measure("cocostuff-linear", tmp_path, "epochs=1").data.digest != before.data.digest


def test_photographs_without_labels_are_left_out_and_counted(coco: Path) -> None:
    result = measure("mask-quality", coco)
    assert result.data.left_out == {"photographs without an annotation in instances_val2017.json": 2}
    assert result.figures["photographs"] == 12
    assert result.figures["regions"] == 24


def test_the_true_regions_as_masks_score_100(coco: Path) -> None:
    """The readers, painting and figures together: what people drew, taken for masks."""
    split = coco_objects(coco, "val2017")
    truths = measured.Mapped(split.samples, measurements.paint)
    from cyborgs.evaluation.mask_quality import mask_quality

    pairs = [((truths[i] - truths[i].min()).astype(np.uint8), [truths[i]]) for i in range(len(truths))]
    figures = mask_quality(pairs, boundary_tolerance=0.0075).values
    assert figures["best_iou"] == figures["covering"] == figures["boundary_f"] == 100
    assert figures["variation_of_information"] == 0


def test_weights_of_a_run_by_cycle_and_encoder(tiny_run: Path, coco: Path) -> None:
    last = measure("mask-quality", coco, weights=str(tiny_run))
    first = measure("mask-quality", coco, weights=str(tiny_run), cycle=0)
    target = measure("mask-quality", coco, weights=str(tiny_run), encoder="target")
    assert len({last.weights.digest, first.weights.digest, target.weights.digest}) == 3
    assert [each.weights.name for each in (last, first, target)] == [
        "tiny, cycle 1", "tiny, cycle 0", "tiny, cycle 1, target",
    ]  # fmt: skip


def test_masks_that_a_run_holds(tiny_run: Path, photographs: Path, tmp_path: Path, coco: Path) -> None:
    """On its own photographs, with what was drawn: as many photographs as labels, found by content."""
    for kind in ("images", "annotations"):
        (tmp_path / kind / "mine").mkdir(parents=True)
    for number, path in enumerate(sorted(photographs.glob("*.png"))[:6]):
        (tmp_path / "images" / "mine" / f"renamed-{number}.png").write_bytes(path.read_bytes())
        with Image.open(path) as image:
            labels = np.asarray(image.convert("L")) // 86
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "annotations" / "mine" / f"renamed-{number}.png")
    held = measure("mask-quality", tmp_path, "masks=run", "split=mine", weights=str(tiny_run))
    assert held.figures["photographs"] == 6
    assert held.figures["covering"] > 20
    other = measure("mask-quality", tmp_path, "masks=run", "split=mine", weights=str(tiny_run), cycle=0)
    assert other.figures != held.figures
    with pytest.raises(DataError, match="not among the photographs"):
        measure("mask-quality", coco, "masks=run", weights=str(tiny_run))
    with pytest.raises(ConfigError, match="only a run holds masks"):
        measure("mask-quality", coco, "masks=run")


def test_masks_with_and_without_a_crf(coco: Path, tiny_run: Path) -> None:
    """Squares of one colour on grey: refined masks follow their edges, those on the feature grid cannot."""
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: it is compiled")
    near = "boundary_tolerance=0.03"  # three pixels
    plain, both = measure("mask-quality", coco, near), measure("mask-quality", coco, near, "crf=true")
    assert {name: both.figures[name] for name in plain.figures} == plain.figures
    assert set(both.figures) - set(plain.figures) == {
        "crf_best_iou", "crf_covering", "crf_variation_of_information", "crf_boundary_f",
    }  # fmt: skip
    assert both.figures["crf_boundary_f"] > plain.figures["boundary_f"] + 30
    assert both.figures["crf_covering"] > plain.figures["covering"] + 20
    with pytest.raises(ConfigError, match="a run's masks are refined"):
        measure("mask-quality", coco, "crf=true", "masks=run", weights=str(tiny_run))


def test_settings_that_were_left_out_are_in_the_result(coco: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Else masks of two layers would stand in one table as if alike."""
    own = open_run(str(tiny_run)).config.masks.layer
    assert measure("mask-quality", coco, weights=str(tiny_run)).settings["layer"] == list(own)
    assert measure("mask-quality", coco).settings["layer"] == ["layer2.1"]
    assert measure("mask-quality", coco, "layer=layer1").settings["layer"] == ["layer1"]


def test_two_splits_that_name_a_category_otherwise(coco: Path, tmp_path: Path) -> None:
    coco = Path(shutil.copytree(coco, tmp_path / "coco"))
    file = coco / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    tree["categories"][0]["name"] = "zebra"
    file.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"category \d+ is 'cat' in train2017 and 'zebra' in val2017"):
        measure("region-linear", coco)


def test_a_device_that_nobody_has(coco: Path) -> None:
    with pytest.raises(ConfigError, match=r"^device 'tpu': use auto, cpu, cuda or cuda:1"):
        measure("mask-quality", coco, "device=tpu")


def test_where_a_result_cannot_go_is_said_before_anything_is_measured(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(protocols, "evaluate_protocol", measured)
    arguments = ["evaluate", "mask-quality", "--weights", "random", "--data", str(coco)]
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"--out {tmp_path}: not a file that can be written\n"
    assert main([*arguments, str(tmp_path), "--out", str(tmp_path / "mine.json")]) == 2
    assert capsys.readouterr().err == f"--data {coco} {tmp_path}: a protocol measures one data set\n"


def test_a_layer_that_the_weights_do_not_have(coco: Path) -> None:
    with pytest.raises(ConfigError, match=r"resnet18 has no layer 'layer2.7'"):
        measure("mask-quality", coco, "layer=layer2.7")


def test_a_protocol_that_changes_the_backbone_ends_without_figures(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(weights: measurements.Weights, *_: object) -> measurements.Measured:
        weights.backbone.train()(torch.randn(2, 3, 32, 32), ["layer1"])
        return measurements.Measured(Figures({"best_iou": 100.0}), {})

    monkeypatch.setitem(measurements.MEASURE, "mask-quality", careless)
    with pytest.raises(BackboneChangedError, match="figures mean nothing"):
        measure("mask-quality", coco)


def test_a_file_is_recognised_and_measures_as_the_run_does(tiny_run: Path, coco: Path, tmp_path: Path) -> None:
    backbone = Backbone("resnet18", seed=3)
    torch.save({"state_dict": {f"module.{k}": v for k, v in backbone.state_dict().items()}}, tmp_path / "mine.pth")
    result = measure("mask-quality", coco, weights=str(tmp_path / "mine.pth"))
    assert (result.weights.architecture, result.weights.name, result.weights.seed) == ("resnet18", "mine.pth", None)
    assert result.seeds == {"protocol": 0}


@pytest.mark.slow
@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no photographs to measure on")
@pytest.mark.parametrize("name", ["mask-quality bsds", *FROZEN_NAMES])
def test_smoke_on_real_photographs_takes_less_than_three_minutes(name: str, tmp_path: Path) -> None:
    assert SAMPLES is not None
    root, settings = Path(SAMPLES) / "coco-mini", []
    if name == "mask-quality bsds":
        root, settings = Path(SAMPLES) / "bsds500", ["split=val"]
    protocol = protocols_name(name)
    if protocol in LAYOUTS:
        convert(root, tmp_path)
        root = tmp_path / LAYOUTS[protocol]
    own = load_protocol(protocol, settings, smoke=True)
    result = evaluate_protocol(protocol, own, weights="random", data=str(root), smoke=True, attempt=Attempt())
    assert result.seconds is not None and result.seconds < 180
    assert result.smoke
    assert 0 < result.figures[FIGURES[protocol]] < 100


def protocols_name(name: str) -> FrozenName:
    """The protocol of a test's name."""
    return next(known for known in FROZEN_NAMES if name.split()[0] == known)


def test_a_run_measures_at_chosen_cycles(tmp_path: Path, photographs: Path, tiny_config: Path, coco: Path) -> None:
    """The same figures as the command gives; what has no labels is skipped with its reason."""
    planned = (
        f"[{{protocol: mask-quality, data: {coco}, cycles: [1], set: [max_side=96, clusters=4]}}, "
        f"{{protocol: knn, data: {coco}, cycles: [0]}}]"
    )
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, f"evaluate.protocols={planned}")
    run_all(url)
    run = open_run(str(url))
    first, second = (standing(run, "evaluate", cycle) for cycle in (0, 1))
    metrics = [json.loads((url / str(each.folder) / "metrics.json").read_text()) for each in (first, second)]
    assert not any(name.startswith(("mask-quality", "knn")) for name in metrics[0])
    skipped = url / str(first.folder) / "protocols" / "knn.json"
    reason = json.loads(skipped.read_text())["skipped"]
    assert str(coco / "train") in reason
    with pytest.raises(DataError, match=re.escape(f"{skipped}: knn was skipped there: {reason}")):
        read_result(skipped)
    assert first.manifest is not None
    assert [reason in warning for warning in first.manifest.provenance.warnings] == [True]
    alone = measure("mask-quality", coco, weights=str(url), cycle=1)
    within = ProtocolResult.model_validate_json(
        (url / str(second.folder) / "protocols" / "mask-quality.json").read_text()
    )
    assert within.figures == alone.figures
    assert (within.seconds, within.provenance, within.weights.digest) == (None, None, alone.weights.digest)
    assert metrics[1]["mask-quality_covering"] == alone.figures["covering"]
    assert second.manifest is not None
    assert [file.path for file in second.manifest.files if "protocols" in file.path] == ["protocols/mask-quality.json"]


def test_a_run_measures_the_backbones_that_it_has_kept(
    tmp_path: Path, photographs: Path, tiny_config: Path, coco: Path
) -> None:
    """Those after the warm-up and within a cycle too (Fig. 5b): the same figures as of their files."""
    planned = f"[{{protocol: mask-quality, data: {coco}, cycles: checkpoints, set: [max_side=96, clusters=4]}}]"
    url = tmp_path / "run"
    kept = "schedule.checkpoint_epochs=[2, 3, 4, 6]"
    prepare(url, tiny_config, photographs, f"evaluate.protocols={planned}", kept)
    run_all(url)
    run = open_run(str(url))
    measured = {
        path.name: (cycle, ProtocolResult.model_validate_json(path.read_text()))
        for cycle in (0, 1)
        for path in (url / str(standing(run, "evaluate", cycle).folder) / "protocols").iterdir()
        if path.name != "mask-quality.json"
    }
    # After 4 and 6 epochs a cycle ends, and is measured anyway.
    assert {name: cycle for name, (cycle, _) in measured.items()} == {
        "mask-quality-epoch-00002.json": 0, "mask-quality-epoch-00003.json": 0,
    }  # fmt: skip
    for name, (_, result) in measured.items():
        (file,) = url.glob(f"*/**/checkpoints/{name.removeprefix('mask-quality-').removesuffix('.json')}.safetensors")
        assert result.figures == measure("mask-quality", coco, weights=str(file)).figures
        assert layout.read_protocol_file(f"protocols/{name}") == ("mask-quality", int(name[-7:-5]))


def test_a_stopped_evaluation_keeps_the_protocols_that_it_finished(
    tmp_path: Path, tiny_run: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while the second of two is measured: it ends there, and the first is not measured again."""
    planned = (
        f"[{{protocol: mask-quality, data: {coco}, set: [max_side=96, clusters=4]}}, "
        f"{{protocol: region-linear, data: {coco}, set: [max_side=96]}}]"
    )
    request = StageRequest(run=str(tmp_path / "run"), stage="evaluate", cycle=0)
    config = change_config(open_run(str(tiny_run)).config, [f"evaluate.protocols={planned}"])
    for name in ("run", "undisturbed"):
        shutil.copytree(tiny_run, tmp_path / name, symlinks=True)
        prepare_run(str(tmp_path / name), config, name="tiny", update=True)
    whole = run_stage(StageRequest(run=str(tmp_path / "undisturbed"), stage="evaluate", cycle=0)).content

    measure, begun, ended = protocols.evaluate_protocol, list[str](), list[str]()

    def watched(name: ProtocolName, *given: Any, **options: Any) -> ProtocolResult:
        begun.append(name)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        result = measure(name, *given, **options)
        ended.append(name)
        return result

    monkeypatch.setattr(protocols, "evaluate_protocol", watched)
    with pytest.raises(PreemptedError, match="stopped; what was done is saved"):
        run_stage(request)
    assert (begun, ended) == (["mask-quality", "region-linear"], ["mask-quality"])
    assert run_stage(request).content == whole
    assert begun[2:] == ["region-linear"]


def test_one_protocol_measured_in_two_ways(tmp_path: Path, tiny_run: Path, coco: Path) -> None:
    """Under names of their own; and what has none is as it was before there were names."""
    planned = (
        f"[{{protocol: mask-quality, data: {coco}, set: [max_side=96, clusters=4]}}, "
        f"{{protocol: mask-quality, name: in-two, data: {coco}, set: [max_side=96, clusters=2]}}]"
    )
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    config = change_config(open_run(str(tiny_run)).config, [f"evaluate.protocols={planned}"])
    dumped = config.model_dump(mode="json")["evaluate"]["protocols"]
    assert ["name" in each for each in dumped] == [False, True]
    run = prepare_run(str(tmp_path / "run"), config, name="tiny", update=True)
    run_stage(StageRequest(run=str(tmp_path / "run"), stage="evaluate", cycle=1))
    folder = tmp_path / "run" / str(standing(run, "evaluate", 1).folder)
    metrics = json.loads((folder / layout.METRICS).read_text())
    for title, clusters in (("mask-quality", 4), ("in-two", 2)):
        result = ProtocolResult.model_validate_json((folder / f"protocols/{title}.json").read_bytes())
        assert (result.protocol, result.settings["clusters"]) == ("mask-quality", clusters)
        assert metrics[f"{title}_best_iou"] == result.figures["best_iou"]


def test_planned_protocols_are_checked_when_the_config_is_loaded() -> None:
    def load(planned: str) -> None:
        load_config("demo", [f"evaluate.protocols={planned}"])

    with pytest.raises(ConfigError, match="clusters = 300"):
        load("[{protocol: mask-quality, data: x, set: [clusters=300]}]")
    with pytest.raises(ConfigError, match="named twice"):
        load("[{protocol: knn, data: x}, {protocol: knn, data: y}]")
    load("[{protocol: knn, data: x}, {protocol: knn, data: y, name: knn-y}]")
    for name in ("../knn", "knn-state", "knn-epoch-00002"):
        with pytest.raises(ConfigError, match="a file is called so"):
            load(f"[{{protocol: knn, data: x, name: {name}}}]")
    with pytest.raises(ConfigError, match=r"evaluate\.protocols"):
        load("[{protocol: magic, data: x}]")

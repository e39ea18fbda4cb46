"""Eight photographs are learnt by heart: what is trained, drawn and measured fits together, on real photographs."""

import json
import os
from pathlib import Path

import pytest

from schemas.protocols import load_protocol
from stages.attempt import Attempt
from stages.protocols import evaluate_protocol
from tests.convert_coco import to_label_maps

SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.many,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no photographs to learn"),
]


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout with the same photographs in both splits: those whose smallest object is the largest."""
    assert SAMPLES is not None
    coco, root = Path(SAMPLES) / "coco-mini", tmp_path_factory.mktemp("eight")
    tree = json.loads((coco / "annotations" / "instances_train2017.json").read_text())

    def smallest(image: dict[str, int]) -> float:
        own = [each for each in tree["annotations"] if each["image_id"] == image["id"]]
        if not own or any(each["iscrowd"] for each in own):
            return 0.0
        return float(min(each["area"] for each in own) / (image["width"] * image["height"]))

    tree["images"] = sorted(tree["images"], key=smallest, reverse=True)[:8]
    kept = {image["id"] for image in tree["images"]}
    tree["annotations"] = [each for each in tree["annotations"] if each["image_id"] in kept]
    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        for image in tree["images"]:
            (root / split / image["file_name"]).symlink_to(coco / "train2017" / image["file_name"])
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    return root


def test_a_detector(eight: Path) -> None:
    settings = [
        "architecture=resnet18", "masks=false", "short_sides=[192]", "max_side=224", "regions=32", "proposals=100",
        "steps=160", "batch_size=4", "learning_rate=0.02", "warmup_steps=10", "milestones=[0.8]",
        "refresh_batch_norm=4", "precision=bfloat16",
    ]  # fmt: skip
    result = evaluate_protocol(
        "coco-instance", load_protocol("coco-instance", settings), weights="random", data=str(eight), attempt=Attempt()
    )
    assert result.figures["box_ap50"] > 80


def test_a_segmenter(eight: Path, tmp_path: Path) -> None:
    """Pixels of objects; what is around them is unlabelled."""
    settings = [
        "architecture=resnet18", "train=train2017", "test=val2017", "long_side=192", "short_side=144",
        "ratio=[1.0,1.0]", "crop=192", "steps=150", "batch_size=8", "learning_rate=0.05", "weight_decay=0",
        "refresh_batch_norm=4", "precision=bfloat16",
    ]  # fmt: skip
    result = evaluate_protocol(
        "cocostuff-fcn",
        load_protocol("cocostuff-fcn", settings),
        weights="random",
        data=str(to_label_maps(eight, tmp_path)),
        attempt=Attempt(),
    )
    assert result.figures["miou"] > 90

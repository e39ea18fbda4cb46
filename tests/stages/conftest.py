"""Finished runs and a small labelled data set, each made once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pipeline import prepare, run_all

ONE_CYCLE = ("schedule.epochs=4", "optimization.optimizer=sgd", "schedule.checkpoint_epochs=[3]")
"""Two epochs of warm-up, two of training; a third of the states' size is the optimiser's otherwise."""
KINDS = [("cat", "animal", "red"), ("car", "vehicle", "lime"), ("tv", "electronic", "blue")]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """Tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("undisturbed") / "run"
    prepare(url, tiny_config, photographs, *ONE_CYCLE)
    run_all(url)
    return url


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run from start to end; tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("run") / "tiny"
    prepare(url, tiny_config, photographs)
    run_all(url)
    return url


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout: 12 photographs a split with two squares each, two more without an annotation."""
    root = tmp_path_factory.mktemp("coco")
    random = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        draw_coco(root, split, random)
    return root


def draw_coco(root: Path, split: str, random: np.random.Generator) -> None:
    """Photographs of coloured squares on grey, with their annotations as polygons."""
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(14):
        image = Image.new("RGB", (96, 64), (110 + number, 110, 110))
        name = f"{number:012d}.jpg"
        images.append({"id": number, "file_name": name, "height": 64, "width": 96})
        for place in range(2) if number < 12 else ():
            kind = (number + place) % len(KINDS)
            left, top, side = (
                48 * place + int(random.integers(4, 12)),
                int(random.integers(4, 20)),
                28 + 4 * (1 - place),
            )
            image.paste(KINDS[kind][2], (left, top, left + side, top + side))
            right, low = left + side, top + side
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "segmentation": [[left, top, right, top, right, low, left, low]],
                    "area": side * side,
                    "bbox": [left, top, side, side],
                    "iscrowd": 0,
                }
            )
        image.save(root / split / name, quality=95)
    categories = [{"id": i + 1, "name": name, "supercategory": kind} for i, (name, kind, _) in enumerate(KINDS)]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))

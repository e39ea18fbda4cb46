"""Photographs and a config small enough to run every stage in seconds; caches of the tests' own."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.object_server import ENVIRONMENT, ObjectServer

TINY = """
network: {architecture: resnet18, region_grid: 4, projector_hidden: 32, projection_dim: 16}
augmentation: {crop_size: 64, blur_kernel: 5, blur_sigma: [0.1, 0.6]}
schedule: {epochs: 6, warmup_epochs: 2, bootstrap_every_epochs: 4}
optimization: {optimizer: adamw, learning_rate: 0.001, batch_size: 4, lr_schedule: cosine, lr_warmup_epochs: 0.5}
vmf: {clusters: 4, iterations: 5}
masks: {layer: layer2.1, clusters: [2, 8], max_side: 96, images_per_group: 4, refresh_batch_norm: 2, rows_per_shard: 16}
train: {regions: 4, vmf_every_epochs: 2}
evaluate: {images: 8, pictures: 2}
numerics: {threads: 1}
placement: {log_every_steps: 1}
"""
"""Two cycles of two epochs; 18 photographs make 4 steps an epoch, five groups and two shards."""


KINDS = [("cat", "animal", "red"), ("car", "vehicle", "lime"), ("tv", "electronic", "blue")]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["CYBORGS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 18 photographs of three sizes: coloured discs on a gradient."""
    return draw_scenes(tmp_path_factory.mktemp("photographs"), 18)


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout: 12 photographs a split with two squares each, two more without an annotation."""
    root = tmp_path_factory.mktemp("coco")
    random = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        draw_coco(root, split, random)
    return root


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML file with the tiny settings."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """An S3 server of this session."""
    server = ObjectServer()
    yield server
    server.stop()


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket on it; the environment leads there."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": object_server.url}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    object_server.make_bucket(name)
    return name


def draw_scenes(folder: Path, count: int) -> Path:
    """Photographs of three sizes in a folder."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        draw_scene(random, *((96, 72), (72, 96), (80, 80))[number % 3]).save(folder / f"{number:02d}.png")
    return folder


def draw_scene(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Three discs of random colour and place on a random gradient, with noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], axis=2) * random.random(3)
    for _ in range(3):
        row, column, radius = random.random() * height, random.random() * width, 8 + random.random() * 20
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.random(3)
    image += random.normal(0, 0.03, image.shape)
    return Image.fromarray((255 * image.clip(0, 1)).astype(np.uint8))


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

"""Photographs to measure on: COCO's where CYBORGS_SAMPLE_DATA names them, else generated JPEGs of COCO's sizes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE_DATA = "CYBORGS_SAMPLE_DATA"
SIZES = ((640, 480), (640, 480), (480, 640), (640, 427), (640, 480), (500, 375), (640, 426), (427, 640))
"""Width and height, the most frequent ones of COCO."""
_QUALITY = 93


@dataclass(frozen=True)
class Photographs:
    """A folder of JPEGs."""

    folder: Path
    kind: str
    """For the table: whose they are."""

    def files(self) -> list[Path]:
        """In order of name."""
        return sorted(self.folder.glob("*.jpg"))


def take_photographs(work: Path, count: int) -> Photographs:
    """A folder of exactly `count` photographs, made once.

    Raises:
        ValueError: the sample data holds fewer.
    """
    sample = os.environ.get(SAMPLE_DATA)
    folder = work / f"photographs-{count}"
    kind = "COCO photographs" if sample else "generated JPEGs of COCO's sizes"
    if folder.exists():
        return Photographs(folder, kind)
    aside = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    if sample:
        _copy_sample(Path(sample) / "coco-mini", aside, count)
    else:
        for number in range(count):
            generate(number).save(aside / f"{number:06d}.jpg", quality=_QUALITY)
    aside.rename(folder)
    return Photographs(folder, kind)


def _copy_sample(source: Path, folder: Path, count: int) -> None:
    files = sorted((path for split in ("train2017", "val2017") for path in (source / split).glob("*.jpg")), key=_name)
    if len(files) < count:
        raise ValueError(f"{SAMPLE_DATA}: {source} holds {len(files)} photographs, {count} are needed")
    for path in files[:count]:
        shutil.copyfile(path, folder / path.name)


def _name(path: Path) -> str:
    return path.name


def generate(number: int) -> Image.Image:
    """A picture of one of COCO's sizes: noise whose detail falls with its frequency, as in photographs."""
    width, height = SIZES[number % len(SIZES)]
    random = np.random.default_rng(number)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12, 40, 120, 300):
        coarse = random.standard_normal((cells, cells, 3)).astype(np.float32)
        layer = [
            Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            for channel in range(3)
        ]
        pixels += np.stack([np.asarray(channel) for channel in layer], axis=2) * (80 / cells**0.4)
    pixels += 8 * random.standard_normal((height, width, 1), np.float32)
    return Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8))

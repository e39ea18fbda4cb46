"""PASCAL VOC's objects with their boxes, of several years together: VOCdevkit/VOC2007, VOCdevkit/VOC2012."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from schemas.errors import DataError
from stages.readers.samples import LazySamples, Split, need_file, plain_name, read_photograph
from stages.readers.voc import CLASSES

Box = tuple[float, float, float, float]
_LAYOUT = "VOC"


@dataclass(frozen=True)
class VocObject:
    """An annotated object."""

    category: int
    """Place in CLASSES."""
    box: Box
    """Left, top, right, bottom in pixels; VOC's files count from 1 and include the last pixel."""
    difficult: bool


@dataclass
class VocSplit(Split[tuple[Image.Image, list[VocObject]]]):
    """With all objects, so that they can be counted without a photograph being read."""

    objects: dict[str, list[VocObject]] = field(default_factory=dict)
    """`VOC2007/000001` -> what is on it."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(width, height) in pixels."""

    def truth(self) -> dict[str, Any]:
        """A COCO json of the photographs that take part; difficult objects count neither way."""
        numbers = {name: number for number, name in enumerate(self.samples.items, start=1)}
        annotations = [
            {
                "image_id": numbers[name],
                "category_id": each.category,
                "bbox": [each.box[0], each.box[1], each.box[2] - each.box[0], each.box[3] - each.box[1]],
                # pycocotools ignores an object beyond the areas that it measures and matches it like any other; as a
                # crowd it would take in every box inside of it.
                "area": _BEYOND if each.difficult else (each.box[2] - each.box[0]) * (each.box[3] - each.box[1]),
                "iscrowd": 0,
            }
            for name in numbers
            for each in self.objects[name]
        ]
        return {
            "images": [
                {"id": number, "width": self.sizes[name][0], "height": self.sizes[name][1]}
                for name, number in numbers.items()
            ],
            "annotations": [{"id": number, **each} for number, each in enumerate(annotations, start=1)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        }


_BEYOND = 1e12


def voc_objects(root: Path, parts: Sequence[str], *, most: int | None = None) -> VocSplit:
    """The photographs of some parts, such as ("VOC2007/trainval", "VOC2012/trainval").

    Args:
        root: VOCdevkit, or the folder that holds it.
        most: photographs, the first by name.

    Raises:
        DataError: a file is missing or not VOC's.
    """
    devkit = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    listed: list[Path] = []
    names: list[str] = []
    for part in parts:
        year, _, split = plain_name(part, source=Path("the setting")).partition("/")
        file = need_file(devkit / year, "ImageSets", "Main", f"{split}.txt", layout=f"{_LAYOUT} ({part})")
        listed.append(file)
        lines = (line.split() for line in file.read_text().splitlines() if line.strip())
        names += [f"{year}/{plain_name(line[0], source=file)}" for line in lines]
    names = sorted(names)[:most]
    if not names:
        raise DataError(f"--data {root}: {' and '.join(map(str, listed))} name no photograph")
    photographs = {name: _file(devkit, name, "JPEGImages", ".jpg") for name in names}
    annotations = {name: _file(devkit, name, "Annotations", ".xml") for name in names}
    read = {name: _objects(path) for name, path in annotations.items()}
    objects = {name: found for name, (found, _) in read.items()}
    return VocSplit(
        LazySamples(names, lambda name: (read_photograph(photographs[name]), objects[name])),
        list(photographs.values()),
        [*listed, *annotations.values()],
        {},
        objects,
        {name: size for name, (_, size) in read.items()},
    )


def _file(devkit: Path, name: str, folder: str, suffix: str) -> Path:
    year, _, number = name.partition("/")
    return need_file(devkit / year, folder, f"{number}{suffix}", layout=_LAYOUT)


def _objects(path: Path) -> tuple[list[VocObject], tuple[int, int]]:
    found = []
    try:
        tree = ElementTree.parse(path).getroot()
        size = int(tree.findtext("size/width") or 0), int(tree.findtext("size/height") or 0)
        for entry in tree.iter("object"):
            left, top, right, below = (float(entry.findtext(f"bndbox/{side}") or "") for side in _SIDES)
            box = (max(left - 1, 0.0), max(top - 1, 0.0), right, below)
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            category = CLASSES.index((entry.findtext("name") or "").strip())
            found.append(VocObject(category, box, (entry.findtext("difficult") or "0").strip() == "1"))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"--data: {path} is not an annotation of VOC with boxes: {error}") from error
    return found, size


_SIDES = ("xmin", "ymin", "xmax", "ymax")

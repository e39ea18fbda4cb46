"""COCO's layout: annotations/instances_<split>.json beside the folder <split>/ (or images/<split>/).

LVIS v1 has the same beside COCO's photographs, in files of its own: annotations/lvis_v1_<split>.json.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import DataError
from stages.readers.samples import LazySamples, Split, need_file, photographs_below, plain_name, read_photograph

LAYOUT = "a data set in COCO's layout"


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one photograph."""

    photograph: Image.Image
    masks: list[NDArray[np.bool_]]
    """(H, W) each, at least a pixel."""
    boxes: list[tuple[float, float, float, float]]
    """Left, top, right, bottom in pixels, as annotated, within the photograph."""
    categories: list[int]
    crowd: NDArray[np.bool_]
    """(H, W) pixels of uncounted crowds, which no object can be told from."""


@dataclass
class CocoSplit(Split[Objects]):
    """With the categories' names, and what the json says of the photographs that take part."""

    names: dict[int, str] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    categories: list[dict[str, Any]] = field(default_factory=list)
    """As the json has them."""

    def truth(self) -> dict[str, Any]:
        """A COCO json of the photographs that take part."""
        annotations = [
            _complete(each) | {"image_id": int(self.images[name]["id"])}
            for name in self.samples.items
            for each in self.annotations.get(name, [])
        ]
        return {
            "images": [self.images[name] | {"id": int(self.images[name]["id"])} for name in self.samples.items],
            # pycocotools takes an object of number 0 for none.
            "annotations": [each | {"id": number} for number, each in enumerate(annotations, start=1)],
            "categories": [each | {"id": int(each["id"])} for each in self.categories],
        }


def _complete(annotation: dict[str, Any]) -> dict[str, Any]:
    """With what pycocotools asks for and some exporters leave out: iscrowd, bbox, area."""
    found = {"iscrowd": 0, **annotation}
    if "bbox" not in found:
        corners = np.array([side for part in found["segmentation"] for side in part], float).reshape(-1, 2)
        left, top = corners.min(axis=0)
        right, below = corners.max(axis=0)
        found["bbox"] = [left, top, right - left, below - top]
    if "area" not in found:
        found["area"] = found["bbox"][2] * found["bbox"][3]
    return found


def coco_objects(
    root: Path, split: str, *, most: int | None = None, empty: bool = False, shapes: bool = True, lvis: bool = False
) -> CocoSplit:
    """The annotated photographs of a split; those without an annotation are left out and counted.

    Args:
        most: photographs, the first by name.
        empty: those that the json lists without an object take part, as in COCO's own scores.
        shapes: objects without a segmentation are left out and counted; without it no mask is read at all.
        lvis: the json is LVIS v1's, `split` is train or val.

    Raises:
        DataError: a file is missing or not what COCO has.
    """
    file = need_file(root, "annotations", f"lvis_v1_{split}.json" if lvis else f"instances_{split}.json", layout=LAYOUT)
    folders = [root] if lvis else [root / split, root / "images" / split]
    folder = next((each for each in folders if each.is_dir()), None)
    if folder is None:
        raise DataError(f"--data {root}: {LAYOUT} has a folder {folders[0]}, which is missing")
    parsed = parse_objects(file, shapes=shapes)
    items = sorted(parsed.images if empty else parsed.annotations)[:most]
    for name in items:
        need_file(folder, name, layout=f"{file.name}'s folder")
    left_out = {f"objects without a segmentation in {file.name}": parsed.shapeless}
    if not lvis:
        present = (path.relative_to(folder).as_posix() for path in photographs_below(folder).values())
        taking_part = parsed.images if empty else parsed.annotations
        unlabelled = sum(name not in taking_part for name in present)
        left_out = {f"photographs without an annotation in {file.name}": unlabelled, **left_out}
    return CocoSplit(
        LazySamples(items, lambda name: _read(folder / name, name, parsed, file, shapes=shapes)),
        [folder / name for name in items],
        [file],
        {what: count for what, count in left_out.items() if count},
        parsed.names,
        parsed.images,
        parsed.annotations,
        parsed.categories,
    )


@dataclass
class ParsedJson:
    """What a COCO json says, by photograph."""

    names: dict[int, str]
    images: dict[str, dict[str, Any]]
    """By file name, below the folder of the photographs."""
    annotations: dict[str, list[dict[str, Any]]]
    """By file name."""
    categories: list[dict[str, Any]]
    shapeless: int = 0


def parse_objects(file: Path, *, shapes: bool) -> ParsedJson:
    """A COCO json of instances.

    Args:
        shapes: objects without a segmentation are left out and counted.

    Raises:
        DataError: it is not one.
    """
    try:
        tree = json.loads(file.read_bytes())
        by_id = {int(image["id"]): image for image in tree["images"]}
        # LVIS names COCO's photographs by where they can be downloaded: …/train2017/000000000009.jpg.
        paths = {
            number: plain_name(
                str(image["file_name"]) if "file_name" in image else "/".join(str(image["coco_url"]).split("/")[-2:]),
                source=file,
            )
            for number, image in by_id.items()
        }
        found = ParsedJson(
            {int(category["id"]): str(category["name"]) for category in tree["categories"]},
            {paths[number]: image for number, image in by_id.items()},
            {},
            tree["categories"],
        )
        for annotation in tree["annotations"]:
            name = paths[int(annotation["image_id"])]
            annotation["category_id"] = int(annotation["category_id"])
            if annotation["category_id"] not in found.names:
                raise DataError(
                    f"--data: {file}: annotation {annotation.get('id')} is of category {annotation['category_id']}, "
                    "which `categories` does not name"
                )
            if shapes and not annotation.get("segmentation"):
                found.shapeless += 1
                continue
            found.annotations.setdefault(name, []).append(annotation)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--data: {file} is not a COCO json of instances: {type(error).__name__} {error}") from error
    return found


def _read(path: Path, name: str, parsed: ParsedJson, file: Path, *, shapes: bool) -> Objects:
    photograph = read_photograph(path)
    size = (photograph.height, photograph.width)
    check_size_said(parsed, name, size, path, file)
    annotations = parsed.annotations.get(name, [])
    return replace(read_objects(annotations, size, file, shapes=shapes), photograph=photograph)


def check_size_said(parsed: ParsedJson, name: str, size: tuple[int, int], path: Path, file: Path) -> None:
    """Hold what the json says of a photograph's height and width against what it has; polygons know no size.

    Raises:
        DataError: they differ.
    """
    image = parsed.images[name]
    said = image.get("height", size[0]), image.get("width", size[1])
    if said != size:
        raise DataError(
            f"--data: {file}: {name} is {said[1]} x {said[0]} there, {path} has {size[1]} x {size[0]} pixels when "
            "upright: was it annotated before it was turned, or scaled since?"
        )


def read_objects(
    annotations: list[dict[str, Any]], size: tuple[int, int], file: Path, *, shapes: bool = True
) -> Objects:
    """The objects of a photograph of that height and width; the photograph itself is not read.

    Raises:
        DataError: one is not readable.
    """
    found = Objects(Image.new("RGB", (1, 1)), [], [], [], np.zeros(size, bool))
    for annotation in annotations:
        mask = _decode(annotation, size, file) if shapes else None
        if annotation.get("iscrowd"):
            found.crowd[...] |= mask if mask is not None else False
            continue
        box = _box(annotation, mask, size, file)
        if box is None or (mask is not None and not mask.any()):
            continue
        if mask is not None:
            found.masks.append(mask)
        found.boxes.append(box)
        found.categories.append(annotation["category_id"])
    return found


def paint(objects: Objects) -> NDArray[np.int32]:
    """Objects as one map: the smaller over the larger, numbered from 1, crowds -1, the rest 0."""
    painted = np.zeros(objects.crowd.shape, np.int32)
    painted[objects.crowd] = -1
    for number in sorted(range(len(objects.masks)), key=lambda i: -int(objects.masks[i].sum())):
        painted[objects.masks[number]] = number + 1
    return painted


def _box(
    annotation: dict[str, Any], mask: NDArray[np.bool_] | None, size: tuple[int, int], file: Path
) -> tuple[float, float, float, float] | None:
    """Corners of the annotated box, or of the mask where there is none; None of an empty one."""
    try:
        left, top, width, height = (float(each) for each in annotation.get("bbox") or _extent(mask))
        right, below = min(left + width, size[1]), min(top + height, size[0])
    except (TypeError, ValueError) as error:
        raise DataError(f"--data: {file}: annotation {annotation.get('id')} has no readable bbox") from error
    left, top = max(left, 0.0), max(top, 0.0)
    return (left, top, right, below) if right > left and below > top else None


def _extent(mask: NDArray[np.bool_] | None) -> tuple[float, float, float, float]:
    """Left, top, width and height of a mask."""
    if mask is None or not mask.any():
        raise ValueError("there is no mask")
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)


def _decode(annotation: dict[str, Any], size: tuple[int, int], file: Path) -> NDArray[np.bool_]:
    """(H, W) mask of polygons or run lengths."""
    from pycocotools import mask as coder

    segmentation: Any = annotation.get("segmentation")
    if isinstance(segmentation, dict) and tuple(segmentation.get("size") or ()) != size:
        # Before anything is decoded: a few bytes can stand for as many pixels as they like.
        raise DataError(
            f"--data: {file}: annotation {annotation.get('id')} is of {segmentation.get('size')} pixels, its "
            f"photograph of {list(size)}"
        )
    try:
        if isinstance(segmentation, list):
            encoded = coder.merge(coder.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            encoded = coder.frPyObjects(segmentation, *segmentation["size"])
        else:
            encoded = segmentation
        mask: NDArray[np.bool_] = coder.decode(encoded).astype(bool)
    # pycocotools answers malformed runs with whatever comes first.
    except Exception as error:
        raise DataError(f"--data: {file}: annotation {annotation.get('id')} has no readable segmentation") from error
    if mask.shape != size:
        raise DataError(
            f"--data: {file}: annotation {annotation.get('id')} is of {mask.shape} pixels, its photograph of {size}"
        )
    return mask

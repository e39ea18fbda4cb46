"""COCO's layout: annotations/instances_<split>.json beside the folder <split>/ (or images/<split>/)."""

import json
from dataclasses import dataclass, field
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
    categories: list[int]
    crowd: NDArray[np.bool_]
    """(H, W) pixels of uncounted crowds, which no object can be told from."""


@dataclass
class CocoSplit(Split[Objects]):
    """With the categories' names."""

    names: dict[int, str] = field(default_factory=dict)


def coco_objects(root: Path, split: str, *, most: int | None = None) -> CocoSplit:
    """The annotated photographs of a split; those without an annotation are left out and counted.

    Args:
        most: photographs, the first by name.

    Raises:
        DataError: a file is missing or not what COCO has.
    """
    file = need_file(root, "annotations", f"instances_{split}.json", layout=LAYOUT)
    folders = [root / split, root / "images" / split]
    folder = next((each for each in folders if each.is_dir()), None)
    if folder is None:
        raise DataError(f"--data {root}: {LAYOUT} has a folder {folders[0]}, which is missing")
    try:
        tree = json.loads(file.read_bytes())
        images = {int(image["id"]): image for image in tree["images"]}
        names = {int(category["id"]): str(category["name"]) for category in tree["categories"]}
        annotations: dict[str, list[dict[str, Any]]] = {}
        shapeless = 0
        for annotation in tree["annotations"]:
            name = str(images[int(annotation["image_id"])]["file_name"])
            annotation["category_id"] = int(annotation["category_id"])
            if annotation["category_id"] not in names:
                raise DataError(
                    f"--data: {file}: annotation {annotation.get('id')} is of category {annotation['category_id']}, "
                    "which `categories` does not name"
                )
            if not annotation.get("segmentation"):
                shapeless += 1
                continue
            annotations.setdefault(plain_name(name, source=file), []).append(annotation)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--data: {file} is not a COCO json of instances: {type(error).__name__} {error}") from error
    items = sorted(annotations)[:most]
    for name in items:
        need_file(folder, name, layout=f"{file.name}'s folder")
    present = (path.relative_to(folder).as_posix() for path in photographs_below(folder).values())
    unlabelled = sum(name not in annotations for name in present)
    left_out = {
        f"photographs without an annotation in {file.name}": unlabelled,
        f"objects without a segmentation in {file.name}": shapeless,
    }
    return CocoSplit(
        LazySamples(items, lambda name: _read(folder / name, annotations[name], file)),
        [folder / name for name in items],
        [file],
        {what: count for what, count in left_out.items() if count},
        names,
    )


def _read(path: Path, annotations: list[dict[str, Any]], file: Path) -> Objects:
    photograph = read_photograph(path)
    size = (photograph.height, photograph.width)
    masks, categories, crowd = [], [], np.zeros(size, bool)
    for annotation in annotations:
        mask = _decode(annotation, size, file)
        if annotation.get("iscrowd"):
            crowd |= mask
        elif mask.any():
            masks.append(mask)
            categories.append(annotation["category_id"])
    return Objects(photograph, masks, categories, crowd)


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

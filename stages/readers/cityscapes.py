"""Cityscapes' layout: leftImg8bit/<split>/<city>/NAME_leftImg8bit.png beside gtFine/…/NAME_gtFine_labelIds.png."""

from pathlib import Path

import numpy as np

from schemas.errors import DataError
from stages.readers.label_maps import VOID, Labelled
from stages.readers.samples import (
    LazySamples,
    Split,
    check_same_size,
    need_file,
    need_folder,
    read_label_map,
    read_photograph,
)

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelIds of those that are measured (cityscapesScripts' labels.py); all others are void."""
_LAYOUT = "Cityscapes"
_PHOTOGRAPH, _LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"


def cityscapes(root: Path, split: str, *, most: int | None = None) -> Split[Labelled]:
    """Photographs of a split, each with its pixels' classes, 0 to 18, VOID elsewhere.

    Raises:
        DataError: a folder or file is missing.
    """
    images = need_folder(root, "leftImg8bit", split, layout=_LAYOUT)
    truth = need_folder(root, "gtFine", split, layout=_LAYOUT)
    photographs = {
        path.relative_to(images).as_posix().removesuffix(_PHOTOGRAPH): path
        for path in sorted(images.rglob(f"*{_PHOTOGRAPH}"))
    }
    if not photographs:
        raise DataError(f"--data {root}: no photographs in {images}/<city>/")
    items = list(photographs)[:most]
    labels = {name: need_file(truth, f"{name}{_LABELS}", layout=_LAYOUT) for name in items}
    classes = np.full(256, VOID, np.int32)
    classes[list(_IDS)] = np.arange(len(_IDS))

    def read(name: str) -> Labelled:
        photograph, numbers = read_photograph(photographs[name]), read_label_map(labels[name])
        check_same_size(numbers, photograph, labels[name])
        return photograph, classes[np.clip(numbers, 0, 255)]

    return Split(LazySamples(items, read), [photographs[name] for name in items], [labels[name] for name in items])

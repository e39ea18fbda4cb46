"""PASCAL VOC 2007's layout: VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import DataError
from stages.readers.samples import LazySamples, Split, need_file, need_folder, plain_name, read_photograph

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_LAYOUT = "VOC 2007"


def voc_root(root: Path) -> Path:
    """The folder VOC2007, whether it, the devkit or the folder of the devkit was given."""
    for below in (root, root / "VOC2007", root / "VOCdevkit" / "VOC2007"):
        if (below / "ImageSets").is_dir() or (below / "JPEGImages").is_dir():
            return below
    raise DataError(f"--data {root}: {_LAYOUT} has a folder {root / 'VOCdevkit' / 'VOC2007'}, which is missing")


def voc(root: Path, split: str, *, most: int | None = None) -> tuple[Split[Image.Image], NDArray[np.int8]]:
    """Photographs of a split and, per photograph and class, 1 present, -1 absent, 0 only as a difficult object.

    That is what VOC's own files ImageSets/Main/<class>_<split>.txt say; it is read from the annotations.

    Raises:
        DataError: a file is missing or not VOC's.
    """
    below = voc_root(root)
    listed = need_file(below, "ImageSets", "Main", f"{split}.txt", layout=_LAYOUT)
    need_folder(below, "JPEGImages", layout=_LAYOUT)
    need_folder(below, "Annotations", layout=_LAYOUT)
    names = [plain_name(line.split()[0], source=listed) for line in listed.read_text().splitlines() if line.strip()]
    names = sorted(names)[:most]
    if not names:
        raise DataError(f"--data {root}: {listed} names no photograph")
    photographs = [need_file(below, "JPEGImages", f"{name}.jpg", layout=_LAYOUT) for name in names]
    annotations = [need_file(below, "Annotations", f"{name}.xml", layout=_LAYOUT) for name in names]
    labels = np.stack([_labels(path) for path in annotations])
    samples = LazySamples(names, lambda name: read_photograph(below / "JPEGImages" / f"{name}.jpg"))
    return Split(samples, photographs, [listed, *annotations]), labels


def _labels(path: Path) -> NDArray[np.int8]:
    labels = np.full(len(CLASSES), -1, np.int8)
    try:
        for entry in ElementTree.parse(path).getroot().iter("object"):
            number = CLASSES.index((entry.findtext("name") or "").strip())
            difficult = (entry.findtext("difficult") or "0").strip() == "1"
            labels[number] = max(labels[number], 0 if difficult else 1)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"--data: {path} is not an annotation of VOC 2007: {error}") from error
    return labels

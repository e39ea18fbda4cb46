"""Label maps beside photographs: COCO-Stuff's and ADE20K's folders, and BSDS with several annotators.

images/<split>/NAME.jpg   annotations/<split>/NAME.png            (COCO-Stuff 164k, ADE20K)
images/NAME.jpg   annotations/NAME.mat   imageLists/<split>.txt   (COCO-Stuff 10k; as .png too)
images/<split>/NAME.jpg   ground_truth/<split>/NAME_<k>.png       (BSDS, k-th annotator)
images/<split>/NAME.jpg   groundTruth/<split>/NAME.mat            (BSDS as published, below data/ too)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import DataError
from stages.readers.samples import (
    LazySamples,
    Split,
    check_same_size,
    need_file,
    need_folder,
    photographs_below,
    plain_name,
    read_label_map,
    read_photograph,
)

VOID = -1
Labelled = tuple[Image.Image, NDArray[np.int32]]
Annotated = tuple[Image.Image, list[NDArray[np.int32]]]
_LAYOUT = "a data set of label maps"


def label_maps(root: Path, split: str, *, void: int | None, most: int | None = None) -> Split[Labelled]:
    """Photographs of a split, each with the classes of its pixels; `void` becomes -1.

    A photograph without a label map is left out and counted.

    Args:
        void: value of unlabelled pixels; in COCO-Stuff 10k's own files, whose classes count from 1, it is 0.
        most: photographs, the first by name.

    Raises:
        DataError: a folder or file is missing, or no photograph has labels.
    """
    images = need_folder(root, "images", layout=_LAYOUT)
    annotations = need_folder(root, "annotations", layout=_LAYOUT)
    if (root / "imageLists").is_dir():
        listed = need_file(root, "imageLists", f"{split}.txt", layout="COCO-Stuff 10k")
        wanted = [plain_name(line.strip(), source=listed) for line in listed.read_text().splitlines() if line.strip()]
        available = photographs_below(images)
        missing = [name for name in wanted if name not in available]
        if missing:
            raise DataError(f"--data {root}: {listed} names {missing[0]}, and {images}/{missing[0]}.jpg is missing")
        photographs = {name: available[name] for name in sorted(wanted)}
    else:
        images = need_folder(images, split, layout=_LAYOUT)
        annotations = need_folder(annotations, split, layout=_LAYOUT)
        photographs = photographs_below(images)
    if not photographs:
        raise DataError(f"--data {root}: no photographs in {images}")
    places = ((name, annotations / f"{name}{suffix}") for name in photographs for suffix in (".png", ".mat"))
    labelled = {name: path for name, path in places if path.is_file()}
    if not labelled:
        raise DataError(f"--data {root}: {annotations}/{next(iter(photographs))}.png is missing, and all others are")
    items = list(labelled)[:most]
    unlabelled = len(photographs) - len(labelled)

    def read(name: str) -> Labelled:
        photograph, path = read_photograph(photographs[name]), labelled[name]
        labels = _read_cocostuff(path) if path.suffix == ".mat" else _without(void, read_label_map(path))
        check_same_size(labels, photograph, path)
        return photograph, labels

    return Split(
        LazySamples(items, read),
        [photographs[name] for name in items],
        [labelled[name] for name in items],
        {f"photographs without a label map in {annotations.relative_to(root)}": unlabelled} if unlabelled else {},
    )


def bsds(root: Path, split: str, *, most: int | None = None) -> Split[Annotated]:
    """Photographs of a split, each with the segments that several annotators drew, numbered from 1.

    Raises:
        DataError: a folder or file is missing, or no photograph has an annotation.
    """
    root = root / "data" if (root / "data" / "groundTruth").is_dir() else root
    images = need_folder(root, "images", split, layout="BSDS")
    original = (root / "groundTruth").is_dir()
    truth = need_folder(root, "groundTruth" if original else "ground_truth", split, layout="BSDS")
    photographs = photographs_below(images)
    if not photographs:
        raise DataError(f"--data {root}: no photographs in {images}")
    maps: dict[str, list[Path]] = {name: [] for name in photographs}
    for path in sorted(truth.glob("*.mat" if original else "*.png")):
        name = path.stem if original else path.stem.rpartition("_")[0]
        if name in maps:
            maps[name].append(path)
    annotated = [name for name, paths in maps.items() if paths]
    if not annotated:
        first = next(iter(photographs))
        raise DataError(
            f"--data {root}: {truth}/{first}{'.mat' if original else '_0.png'} is missing, and all others are"
        )
    items = annotated[:most]

    def read(name: str) -> Annotated:
        photograph = read_photograph(photographs[name])
        annotations = [labels for path in maps[name] for labels in (_read_mat(path) if original else [_read(path)])]
        for labels in annotations:
            check_same_size(labels, photograph, maps[name][0])
        return photograph, annotations

    unlabelled = len(photographs) - len(annotated)
    return Split(
        LazySamples(items, read),
        [photographs[name] for name in items],
        [path for name in items for path in maps[name]],
        {f"photographs without an annotation in {truth.relative_to(root)}": unlabelled} if unlabelled else {},
    )


def _read(path: Path) -> NDArray[np.int32]:
    labels = read_label_map(path)
    first: NDArray[np.int32] = labels - labels.min() + 1  # numbered from 1, in some copies from 0
    return first


def _without(void: int | None, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    return labels if void is None else np.where(labels == void, VOID, labels).astype(np.int32)


def _read_mat(path: Path) -> list[NDArray[np.int32]]:
    """All annotators' segmentations in one of Berkeley's own files."""
    with _matlab(path, "BSDS'") as content:
        return [np.asarray(cell["Segmentation"].item(), np.int32) for cell in content["groundTruth"].ravel()]


def _read_cocostuff(path: Path) -> NDArray[np.int32]:
    """Classes in one of COCO-Stuff 10k's own files: S is 0 where nobody labelled, else 1 to 182."""
    with _matlab(path, "COCO-Stuff 10k's") as content:
        classes: NDArray[np.int32] = np.asarray(content["S"], np.int32) - 1
        return classes


@contextmanager
def _matlab(path: Path, whose: str) -> Iterator[Any]:
    from scipy.io import loadmat

    try:
        yield loadmat(path)
    # Whatever scipy meets in a file that is none.
    except Exception as error:
        raise DataError(f"--data: {path} is not one of {whose} files: {type(error).__name__} {error}") from error

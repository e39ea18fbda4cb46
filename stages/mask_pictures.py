"""`cyborgs masks show` and `masks compare`: photographs beside their masks, as one picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

from cyborgs.clustering.bootstrap import fit_within
from cyborgs.colours import label_colours
from cyborgs.evaluation.agreement import mask_agreement
from cyborgs.evaluation.mask_quality import at_size
from schemas.errors import ConfigError
from stages.run_masks import CycleMasks, Labels, cycle_masks
from storage.masks import read_rows
from storage.photographs import encode_key
from storage.run import Run

SIDE = 256
"""Longer side of each picture in pixels."""
_TITLE = 14
_GAP = 4
_BLEND = 0.5


@dataclass(frozen=True)
class Change:
    """How far one photograph's masks agree between two cycles."""

    row: int
    name: str
    agreement: float
    """Adjusted Rand index: 1 the same regions, 0 as by chance."""
    regions: tuple[int, int]


def show_masks(run: Run, cycle: int, *, images: list[str], file: Path, most: int = 8) -> int:
    """Write a sheet of photographs, their masks, and both over each other; returns how many photographs.

    Args:
        images: photographs by name or row; else the first `most`.

    Raises:
        CyborgsError: the masks are not made, a photograph is unknown, or the file cannot be written.
    """
    _check_file(file)
    masks = cycle_masks(run, cycle)
    rows = masks.rows(images, most=most)
    sheet = []
    for row in rows:
        photograph = fit_within(masks.reader(row), SIDE)
        colours = _colours(masks.row(row).labels, photograph)
        name = encode_key(masks.photographs[row].key)
        sheet.append(
            (
                f"{row}: {name}, {_count(masks.row(row).labels)} regions",
                [photograph, colours, _over(photograph, colours)],
            )
        )
    _write(sheet, file)
    return len(rows)


def compare_masks(
    run: Run, first: int, second: int, *, images: list[str], file: Path | None, most: int = 8
) -> list[Change]:
    """Agreement of two cycles' masks, photograph by photograph, what changed most first.

    Writes a sheet of the photographs that changed most (or of `images`): photograph, masks of either cycle; regions of
    the second are coloured like the region of the first that they share most with.

    Raises:
        CyborgsError: as for `show_masks`.
    """
    if file is not None:
        _check_file(file)
    one, two = cycle_masks(run, first), cycle_masks(run, second)
    rows = set(one.rows(images, most=len(one.photographs)))
    changes = []
    for (row, held), (_, renewed) in zip(read_rows(one.store), read_rows(two.store), strict=True):
        if row not in rows:
            continue
        before, after = held.labels, renewed.labels
        name = encode_key(one.photographs[row].key)
        changes.append(Change(row, name, mask_agreement(before, after), (_count(before), _count(after))))
    changes.sort(key=lambda change: (change.agreement, change.row))
    if file is not None:
        _write([_pair(one, two, change) for change in changes[: len(images) or most]], file)
    return changes


def _pair(one: CycleMasks, two: CycleMasks, change: Change) -> tuple[str, list[Image.Image]]:
    photograph = fit_within(one.reader(change.row), SIDE)
    before, after = one.row(change.row).labels, two.row(change.row).labels
    title = f"{change.row}: {change.name}, agreement {change.agreement:.2f}"
    return title, [photograph, _colours(before, photograph), _colours(match_labels(before, after), photograph)]


def match_labels(reference: Labels, labels: Labels) -> Labels:
    """`labels` renamed one to one so that as many cells as possible carry the reference's label.

    Args:
        reference, labels: (h, w) on the same grid.
    """
    known, rows = np.unique(reference, return_inverse=True)
    own, columns = np.unique(labels, return_inverse=True)
    shared = np.zeros((len(own), len(known)), np.int64)
    np.add.at(shared, (columns.ravel(), rows.ravel()), 1)
    renamed = np.full(len(own), -1)
    for place, partner in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        renamed[place] = known[partner]
    free = [label for label in range(256) if label not in set(renamed.tolist()) | set(known.tolist())]
    for place in np.flatnonzero(renamed < 0):
        # With more than 256 labels in all, one of the reference's has to serve twice.
        renamed[place] = free.pop(0) if free else int(own[place])
    return renamed[columns].reshape(labels.shape).astype(np.uint8)


def _colours(labels: Labels, photograph: Image.Image) -> Image.Image:
    return Image.fromarray(label_colours()[at_size(labels, photograph.height, photograph.width)])


def _over(photograph: Image.Image, colours: Image.Image) -> Image.Image:
    return Image.blend(photograph, colours, _BLEND)


def _count(labels: NDArray[np.uint8]) -> int:
    return len(np.unique(labels))


def _write(sheet: list[tuple[str, list[Image.Image]]], file: Path) -> None:
    width = max(sum(picture.width + _GAP for picture in pictures) for _, pictures in sheet) - _GAP
    height = sum(pictures[0].height + _TITLE + _GAP for _, pictures in sheet) - _GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for title, pictures in sheet:
        draw.text((2, top), title.encode("latin-1", "replace").decode("latin-1"), fill="black")
        left = 0
        for picture in pictures:
            canvas.paste(picture, (left, top + _TITLE))
            left += picture.width + _GAP
        top += pictures[0].height + _TITLE + _GAP
    canvas.save(file)


def _check_file(file: Path) -> None:
    if file.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"-o {file}: a picture's name ends in .png or .jpg")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"-o {file}: the folder {file.absolute().parent} does not exist: make it first")

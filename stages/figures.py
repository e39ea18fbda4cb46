"""Pictures that `evaluate` leaves of a photograph: figures/<row>-photograph.jpg beside figures/<row>-masks.png, a pixel
for each cell of the label map, labels and their palette.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyborgs.colours import label_colours

FIGURES = "figures"
"""Folder of an evaluation."""
_PHOTOGRAPH, _MASKS = "-photograph.jpg", "-masks.png"
_SIDE = 256


def draw(folder: Path, row: int, photograph: Image.Image, labels: NDArray[np.uint8]) -> None:
    """Write both pictures of a row.

    Args:
        labels: (h, w) label map.
    """
    (folder / f"{row:03d}{_PHOTOGRAPH}").write_bytes(photograph_jpeg(photograph))
    picture = Image.fromarray(labels, "P")
    picture.putpalette(label_colours().tobytes())
    picture.save(folder / f"{row:03d}{_MASKS}", optimize=True)


def photograph_jpeg(photograph: Image.Image) -> bytes:
    """As it is shown, small."""
    from cyborgs.clustering.bootstrap import fit_within  # brings torch, and most pictures are drawn already

    buffer = io.BytesIO()
    fit_within(photograph, _SIDE).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def photograph_row(path: str) -> int | None:
    """The row whose photograph a file shows; None of other files."""
    name = path.rsplit("/", 1)[-1]
    return int(name.removesuffix(_PHOTOGRAPH)) if name.endswith(_PHOTOGRAPH) else None


def masks_row(path: str) -> int | None:
    """The row whose label map a file shows; None of other files."""
    name = path.rsplit("/", 1)[-1]
    return int(name.removesuffix(_MASKS)) if name.endswith(_MASKS) else None


def read_labels(png: bytes) -> NDArray[np.uint8]:
    """(h, w) label map of a masks' picture."""
    with Image.open(io.BytesIO(png)) as picture:
        # Runs of before have colours in place of labels.
        return np.asarray(picture) if picture.mode == "P" else _labels_of(np.asarray(picture.convert("RGB")))


def _labels_of(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) labels of (h, w, 3) colours; no two labels have the same."""
    weights = np.array([1 << 16, 1 << 8, 1])
    known = label_colours() @ weights
    order = np.argsort(known)
    labels: NDArray[np.uint8] = order[np.searchsorted(known, colours @ weights, sorter=order)].astype(np.uint8)
    return labels

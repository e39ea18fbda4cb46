"""Selective search's boxes as regions (Uijlings et al. 2013), by OpenCV's contributed modules.

Axes: H x W pixels.
"""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyborgs.mask_sources.partitions import Labels
from cyborgs.random_streams import stream

_MOST_OVERLAP = 0.5
"""IoU above which a box is the same as one that was taken before it."""


def search_boxes(photograph: Image.Image, *, most: int, min_share: float, seed: int) -> NDArray[np.int64]:
    """The first boxes of the fast mode that cover enough and are not alike: (B, 4) left, top, width, height.

    OpenCV finds the same boxes each time, in an order that it draws from the C library's state, whatever that is
    just then: they are ranked here.

    Args:
        most: boxes.
        min_share: of the photograph's pixels that a box covers at least.
        seed: of the ranking, part of which is drawn.

    Raises:
        ImportError: OpenCV with its contributed modules is not installed.
    """
    # By name: of OpenCV's packages, each with types of its own, any may lie there when types are checked.
    cv2: Any = import_module("cv2")
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.asarray(photograph)[..., ::-1].copy())
    search.switchToSelectiveSearchFast()
    taken: list[NDArray[np.int64]] = []
    for box in ranked(np.asarray(search.process(), np.int64).reshape(-1, 4), seed=seed):
        share = box[2] * box[3] / (photograph.width * photograph.height)
        if share >= min_share and all(_overlap(box, other) <= _MOST_OVERLAP for other in taken):
            taken.append(box)
        if len(taken) == most:
            break
    return np.array(taken, np.int64).reshape(-1, 4)


def ranked(boxes: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Boxes in an order that depends on which they are and on the seed alone: (B, 4).

    As in section 3.3 of Uijlings et al., by place in the hierarchy times a number drawn from [0, 1); the place is
    told by size, the largest being the first.
    """
    ordered = np.unique(boxes, axis=0)
    ordered = ordered[np.argsort(-ordered[:, 2] * ordered[:, 3], kind="stable")]
    drawn = np.arange(1, len(ordered) + 1) * stream("ranking of boxes", seed).random(len(ordered))
    ranking: NDArray[np.int64] = ordered[np.argsort(drawn, kind="stable")]
    return ranking


def painted(boxes: NDArray[np.int64], height: int, width: int) -> Labels:
    """Boxes as one map: the smaller over the larger, 0 where there is none, the b-th box b + 1."""
    labels = np.zeros((height, width), np.uint8)
    for number in np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable"):
        left, top, across, down = boxes[number]
        labels[top : top + down, left : left + across] = number + 1
    return labels


def _overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """IoU of two boxes."""
    sides = [
        min(first[axis] + first[axis + 2], second[axis] + second[axis + 2]) - max(first[axis], second[axis])
        for axis in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return float(shared / (first[2] * first[3] + second[2] * second[3] - shared))

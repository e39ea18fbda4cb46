"""Photographs with objects as a detector takes them. Resizing is the detector's own first step.

Axes: N objects, H x W pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cyborgs.augmentation.pixels import to_tensor

Target = dict[str, Tensor]


@dataclass(frozen=True)
class DetectionSample:
    """The objects of a photograph that a detector learns from."""

    photograph: Image.Image
    boxes: NDArray[np.float32]
    """(N, 4) left, top, right, bottom in pixels."""
    classes: NDArray[np.int64]
    """(N,) from 1: 0 is the background."""
    masks: NDArray[np.uint8] | None = None
    """(N, H, W)."""


def draw_detection(sample: DetectionSample, random: np.random.Generator) -> tuple[Tensor, Target]:
    """The photograph, mirrored by half a chance: (3, H, W) uint8 and its target, as torchvision's detectors take it."""
    image, width = to_tensor(sample.photograph), sample.photograph.width
    boxes = torch.from_numpy(sample.boxes).reshape(-1, 4)
    target = {"labels": torch.from_numpy(sample.classes)}
    masks = None if sample.masks is None else torch.from_numpy(sample.masks)
    if random.random() < 0.5:
        image = image.flip(-1)
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        masks = None if masks is None else masks.flip(-1)
    target["boxes"] = boxes
    if masks is not None:
        target["masks"] = masks
    return image, target

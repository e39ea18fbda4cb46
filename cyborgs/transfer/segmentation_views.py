"""Photographs with label maps as FCN's recipe draws them (mmsegmentation): resize, crop, flip, colour, pad.

Axes: H x W pixels, S the crop side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from cyborgs.augmentation.pixels import to_tensor

VOID = -1
LabelledPhotograph = tuple[Image.Image, NDArray[np.int32]]
"""A photograph with (H, W) classes of its pixels, VOID where unlabelled."""
_TRIES = 10
_BRIGHTNESS, _CONTRAST, _HUE = 32.0, 0.5, 18 / 180
"""Largest changes both ways: in levels; of the factor; as a share of the circle of hues, OpenCV's 180 steps."""


@dataclass(frozen=True)
class SegmentationViews:
    """Settings of the recipe."""

    long_side: int
    short_side: int
    """A photograph is scaled to the largest size within both, by mmsegmentation's `keep_ratio`."""
    ratio: tuple[float, float]
    """Between which that size is multiplied in training."""
    crop: int
    most_of_one: float = 0.75
    """A crop is drawn again, up to ten times, where one class has a larger share of its labelled pixels."""

    def draw(self, sample: LabelledPhotograph, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A training sample: (3, S, S) uint8 and (S, S) int64, black and VOID where the crop leaves the photograph."""
        photograph, labels = resized(sample, self._size(sample[0], random.uniform(*self.ratio)))
        labels, (top, left) = self._crop(labels, random)
        photograph = photograph.crop((left, top, left + labels.shape[1], top + labels.shape[0]))
        image, classes = to_tensor(photograph), torch.from_numpy(labels.astype(np.int64))
        if random.random() < 0.5:
            image, classes = image.flip(-1), classes.flip(-1)
        image = distort(image, random)
        padding = [0, 0, self.crop - classes.shape[1], self.crop - classes.shape[0]]
        return F.pad(image, padding), F.pad(classes.unsqueeze(0), padding, fill=VOID).squeeze(0)

    def measured(self, photograph: Image.Image) -> Image.Image:
        """The photograph at the size at which it is measured."""
        return photograph.resize(self._size(photograph, 1.0), Image.Resampling.BILINEAR)

    def _size(self, photograph: Image.Image, ratio: float) -> tuple[int, int]:
        """(width, height)."""
        width, height = photograph.size
        scale = ratio * min(self.long_side / max(width, height), self.short_side / min(width, height))
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))

    def _crop(
        self, labels: NDArray[np.int32], random: np.random.Generator
    ) -> tuple[NDArray[np.int32], tuple[int, int]]:
        """The crop's labels and its corner."""
        height, width = labels.shape
        for _ in range(_TRIES):
            top = int(random.integers(max(height - self.crop, 0) + 1))
            left = int(random.integers(max(width - self.crop, 0) + 1))
            found = labels[top : top + self.crop, left : left + self.crop]
            counts = np.unique(found[found != VOID], return_counts=True)[1]
            if len(counts) > 1 and counts.max() / counts.sum() < self.most_of_one:
                break
        return found, (top, left)


def resized(sample: LabelledPhotograph, size: tuple[int, int]) -> LabelledPhotograph:
    """Photograph by bilinear interpolation, labels by the nearest pixel; size is (width, height)."""
    photograph, labels = sample
    grown = Image.fromarray(labels, mode="I").resize(size, Image.Resampling.NEAREST)
    return photograph.resize(size, Image.Resampling.BILINEAR), np.asarray(grown, np.int32)


def distort(image: Tensor, random: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, each by half a chance, contrast before or after the last two.

    (3, H, W) uint8 in and out. mmsegmentation's PhotoMetricDistortion; saturation by torchvision, towards grey.
    """
    brightness = random.uniform(-_BRIGHTNESS, _BRIGHTNESS) if random.random() < 0.5 else 0.0
    early = random.random() < 0.5
    contrast = random.uniform(1 - _CONTRAST, 1 + _CONTRAST) if random.random() < 0.5 else 1.0
    saturation = random.uniform(1 - _CONTRAST, 1 + _CONTRAST) if random.random() < 0.5 else 1.0
    hue = random.uniform(-_HUE, _HUE) if random.random() < 0.5 else 0.0
    levels = image.float()
    if brightness:
        levels = levels + brightness
    if early:
        levels = levels * contrast
    levels = levels.clamp(0, 255).to(torch.uint8)
    if saturation != 1:
        levels = F.adjust_saturation(levels, saturation)
    if hue:
        levels = F.adjust_hue(levels, hue)
    if not early:
        levels = (levels.float() * contrast).clamp(0, 255).to(torch.uint8)
    return levels

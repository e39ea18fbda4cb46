"""Where a view is cut from a photograph."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crop:
    """A rectangle in pixels of the upright photograph, and whether the view is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool

    def box(self, image_size: tuple[int, int]) -> tuple[float, float, float, float, float]:
        """(top, left, height, width, flip) in units of the photograph's height and width."""
        tall, wide = image_size
        return self.top / tall, self.left / wide, self.height / tall, self.width / wide, float(self.flip)


ATTEMPTS = 10
"""As torchvision's RandomResizedCrop: then the largest central crop of a permitted shape."""


def draw_crop(
    image_size: tuple[int, int],
    *,
    area: tuple[float, float],
    ratio: tuple[float, float],
    flip_probability: float,
    random: np.random.Generator,
) -> Crop:
    """Draw a crop of random area and shape.

    Args:
        image_size: height and width of the photograph.
        area: smallest and largest share of the photograph, drawn uniformly.
        ratio: smallest and largest width / height, drawn log-uniformly.
    """
    tall, wide = image_size
    flip = bool(random.random() < flip_probability)
    for _ in range(ATTEMPTS):
        pixels = tall * wide * random.uniform(*area)
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < width <= wide and 0 < height <= tall:
            top = int(random.integers(0, tall - height, endpoint=True))
            left = int(random.integers(0, wide - width, endpoint=True))
            return Crop(top, left, height, width, flip)
    shape = min(max(wide / tall, ratio[0]), ratio[1])
    width, height = min(wide, max(1, round(tall * shape))), min(tall, max(1, round(wide / shape)))
    return Crop((tall - height) // 2, (wide - width) // 2, height, width, flip)

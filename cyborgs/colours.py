"""Colours of labels, for every picture of masks."""

import numpy as np
from numpy.typing import NDArray


def label_colours() -> NDArray[np.uint8]:
    """A colour for each label, neighbouring labels far apart: (256, 3) uint8 RGB."""
    golden = 0.61803398875
    hues = np.arange(256) * golden % 1.0
    values = 0.95 - 0.35 * (np.arange(256) * golden * golden % 1.0)
    offsets = np.array([0.0, 1 / 3, 2 / 3])
    wheel = np.abs((hues[:, None] + offsets) % 1.0 * 6 - 3) - 1
    colours = values[:, None] * (0.35 + 0.65 * np.clip(wheel, 0, 1))
    rounded: NDArray[np.uint8] = (255 * colours).round().astype(np.uint8)
    return rounded

"""Turned hues against the way over HSV, in floating point."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from cyborgs.augmentation.hue import turn_hue


@pytest.mark.parametrize("turns", [0.1, -0.1, 0.0372, -0.0519, 0.5, -0.5, 0.3])
def test_it_is_the_turn_in_hsv(turns: float) -> None:
    """Noise, greys, and colours of which two channels or all are equal: rounded, and a tenth of a level beside."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    pixels[0, :, :] = pixels[0, :, :1]
    pixels[1, :, 1], pixels[2, :, 2], pixels[3, :, 2] = pixels[1, :, 0], pixels[2, :, 1], pixels[3, :, 0]
    pixels[4] = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (40, 3))
    found = np.asarray(turn_hue(Image.fromarray(pixels), turns)).reshape(-1, 3)
    expected = []
    for red, green, blue in pixels.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    assert np.abs(found - 255 * np.array(expected)).max() < 0.6


def test_no_turn_changes_nothing() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(turn_hue(Image.fromarray(pixels), 0.0)), pixels)

"""Turning the hue of a view, in whole numbers: exact to a grey level, and several times as fast as by way of HSV."""

import numpy as np
from PIL import Image

_FRACTION = 16
"""Parts of a grey level that are reckoned with; a photograph's largest number, 8 chromas, just fits 16 bits."""


def turn_hue(view: Image.Image, turns: float) -> Image.Image:
    """The same value and saturation, the hue turned on.

    Instead of the hue itself this moves its product with the chroma, which needs no division: on the circle of six
    chromas each channel rises over one, stays for two, falls over one.

    Args:
        view: RGB.
        turns: of the colour circle, -1/2..1/2.
    """
    pixels = np.asarray(view)
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.int16, order="C")
    darkest = np.minimum(np.minimum(red, green), blue)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - darkest
    # Masks as factors: numpy is much slower to choose than to multiply.
    is_red = value == red
    is_green = (value == green) > is_red
    is_blue = ~(is_red | is_green)
    place = (green - blue) * is_red + (2 * chroma + blue - red) * is_green + (4 * chroma + red - green) * is_blue
    place *= _FRACTION
    place += np.rint(chroma * np.float32(6 * _FRACTION * turns)).astype(np.int16)
    chroma *= _FRACTION
    place += 6 * chroma * (place < 0)
    place -= 6 * chroma * (place >= 6 * chroma)
    darkest *= _FRACTION
    darkest += _FRACTION // 2  # for rounding
    turned = np.empty_like(pixels)
    for channel, above in enumerate(
        (
            np.abs(place - 3 * chroma) - chroma,
            2 * chroma - np.abs(place - 2 * chroma),
            2 * chroma - np.abs(place - 4 * chroma),
        )
    ):
        np.maximum(above, 0, out=above)
        np.minimum(above, chroma, out=above)
        turned[..., channel] = (above + darkest) // _FRACTION
    return Image.fromarray(turned)

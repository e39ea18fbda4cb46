"""BYOL's two augmentation pipelines, drawn from a given random stream (Grill et al. 2020, appendix B)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from cyborgs.augmentation.blur import blur
from cyborgs.augmentation.crop import Crop, draw_crop
from cyborgs.augmentation.hue import turn_hue
from cyborgs.augmentation.pixels import to_tensor

_LUMA = "L"


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities; pairs hold view 1 and view 2."""

    crop_size: int
    crop_area: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip_probability: float
    jitter_probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey_probability: float
    blur_probability: tuple[float, float]
    blur_kernel: int
    blur_sigma: tuple[float, float]
    solarize_probability: tuple[float, float]
    solarize_threshold: float


def draw_view(
    photograph: Image.Image, augmentation: Augmentation, *, pipeline: int, random: np.random.Generator
) -> tuple[Tensor, Crop]:
    """One augmented view.

    Args:
        photograph: upright RGB.
        pipeline: 0 or 1, which of the two pipelines.
        random: the view's own stream.

    Returns:
        (3, S, S) uint8, and where it was cut.
    """
    crop = draw_crop(
        (photograph.height, photograph.width),
        area=augmentation.crop_area,
        ratio=augmentation.crop_ratio,
        flip_probability=augmentation.flip_probability,
        random=random,
    )
    view = cut(photograph, crop, augmentation.crop_size)
    if random.random() < augmentation.jitter_probability:
        view = _jitter(view, augmentation, random)
    if random.random() < augmentation.grey_probability:
        view = view.convert(_LUMA).convert("RGB")
    pixels = to_tensor(view)
    if random.random() < augmentation.blur_probability[pipeline]:
        pixels = blur(pixels, augmentation.blur_kernel, random.uniform(*augmentation.blur_sigma))
    if random.random() < augmentation.solarize_probability[pipeline]:
        pixels = F.solarize(pixels, round(255 * augmentation.solarize_threshold))
    return pixels, crop


def cut(photograph: Image.Image, crop: Crop, size: int) -> Image.Image:
    """The crop, resized to `size` x `size` and mirrored where it says so."""
    part = photograph.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    # torchvision's, on bytes: several times as fast as Pillow's, and within a grey level of it.
    pixels = F.resize(to_tensor(part), [size, size], InterpolationMode.BICUBIC, antialias=True)
    view = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flip else view


def _jitter(view: Image.Image, augmentation: Augmentation, random: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation and hue, in random order."""
    brightness, contrast, saturation = (
        float(random.uniform(1 - strength, 1 + strength))
        for strength in (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    )
    hue = float(random.uniform(-augmentation.hue, augmentation.hue))
    for step in random.permutation(4):
        if step == 0:
            view = F.adjust_brightness(view, brightness)
        elif step == 1:
            view = F.adjust_contrast(view, contrast)
        elif step == 2:
            view = F.adjust_saturation(view, saturation)
        else:
            view = turn_hue(view, hue)
    return view

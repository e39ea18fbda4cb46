"""BYOL's two augmentation pipelines, drawn from a given random stream (Grill et al. 2020, appendix B)."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from cyborgs.augmentation.crop import Crop, draw_crop
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
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    view = photograph.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flip else view


def blur(pixels: Tensor, kernel: int, sigma: float) -> Tensor:
    """Gaussian blur of a (3, S, S) uint8 image, one axis after the other: k + k taps instead of k x k."""
    blurred = F.gaussian_blur(pixels.float(), [kernel, 1], [sigma, sigma])
    blurred = F.gaussian_blur(blurred, [1, kernel], [sigma, sigma])
    rounded: Tensor = blurred.round().clamp(0, 255).to(torch.uint8)
    return rounded


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
            view = F.adjust_hue(view, hue)
    return view

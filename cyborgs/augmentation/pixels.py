"""From a photograph to the numbers a network takes."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, per channel, of values 0 to 1."""


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) uint8."""
    tensor: Tensor = F.pil_to_tensor(image)
    return tensor


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 by ImageNet's mean and standard deviation, channels last in memory."""
    scaled = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    # Plain numbers, channel by channel: nothing is sent to the device for them, which would wait for it.
    for channel, mean, std in zip(scaled.unbind(1), MEAN, STD, strict=True):
        channel.sub_(255 * mean).div_(255 * std)
    return scaled.contiguous(memory_format=torch.channels_last)

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
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    scaled = (images.float() / 255 - mean) / std
    return scaled.contiguous(memory_format=torch.channels_last)

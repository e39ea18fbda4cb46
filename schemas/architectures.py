"""The backbones that a config may name, and which layers they have, without importing torchvision."""

from typing import Literal, get_args

Architecture = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]

ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
    "resnext50_32x4d": (3, 4, 6, 3),
    "resnext101_32x8d": (3, 4, 23, 3),
    "resnext101_64x4d": (3, 4, 23, 3),
    "wide_resnet50_2": (3, 4, 6, 3),
    "wide_resnet101_2": (3, 4, 23, 3),
}
"""Residual blocks in layer1 to layer4."""


def layer_names(architecture: str) -> list[str]:
    """All names a layer can be asked for by: `layer2` (the whole layer) or `layer2.1` (up to that block)."""
    names = []
    for number, blocks in enumerate(BLOCKS[architecture], start=1):
        names.append(f"layer{number}")
        names.extend(f"layer{number}.{block}" for block in range(blocks))
    return names


def layer_channels(architecture: str, layer: str) -> int:
    """Channels of a layer's feature map."""
    basic = architecture in ("resnet18", "resnet34")
    return int((64 if basic else 256) * 2 ** (int(layer.removeprefix("layer").split(".")[0]) - 1))


def layer_stride(layer: str) -> int:
    """Pixels of the photograph per cell of the layer's feature grid: 4, 8, 16 or 32."""
    return int(2 ** (int(layer.removeprefix("layer").split(".")[0]) + 1))


def feature_grid(height: int, width: int, stride: int) -> tuple[int, int]:
    """Cells of the feature grid over a `height` x `width` input: every halving rounds up."""
    return -(-height // stride), -(-width // stride)

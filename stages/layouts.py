"""Names and shapes of a ResNet's tensors in each library, written from the libraries' published sources.

torchvision: models/resnet.py; timm: models/resnet.py; mmdet: models/backbones/{resnet,resnext}.py; detectron2:
modeling/backbone/resnet.py and tools/convert-torchvision-to-d2.py. An export is held against them before it is written.
"""

from collections.abc import Iterator
from typing import Literal

from schemas.architectures import BLOCKS

Shape = tuple[int, ...]
Library = Literal["torchvision", "timm", "detectron2", "mmdet"]

_GROUPS = {"resnext50_32x4d": (32, 4), "resnext101_32x8d": (32, 8), "resnext101_64x4d": (64, 4)}
_WIDE = {"wide_resnet50_2": 128, "wide_resnet101_2": 128}
_PLANES = (64, 128, 256, 512)
BASIC = ("resnet18", "resnet34")


def groups_and_width(architecture: str) -> tuple[int, int]:
    """Groups of the 3x3 convolutions, and channels of each group in the first layer."""
    return _GROUPS.get(architecture, (1, _WIDE.get(architecture, 64)))


def published_layout(library: Library, architecture: str) -> dict[str, Shape]:
    """Tensor name -> shape of a backbone without its classifier, counters of batch-norm left out."""
    if library == "detectron2":
        return dict(_detectron2(architecture))
    return dict(_torchvision(architecture))


def _convolutions(architecture: str) -> Iterator[tuple[int, int, str, Shape]]:
    """(layer from 1, block, which, shape) of every convolution behind the stem; "shortcut" is the projection."""
    inputs = 64
    groups, base = groups_and_width(architecture)
    for layer, (blocks, planes) in enumerate(zip(BLOCKS[architecture], _PLANES, strict=True), start=1):
        outputs = planes if architecture in BASIC else planes * 4
        for block in range(blocks):
            if architecture in BASIC:
                yield layer, block, "conv1", (planes, inputs, 3, 3)
                yield layer, block, "conv2", (planes, planes, 3, 3)
            else:
                width = planes * base // 64 * groups
                yield layer, block, "conv1", (width, inputs, 1, 1)
                yield layer, block, "conv2", (width, width // groups, 3, 3)
                yield layer, block, "conv3", (outputs, width, 1, 1)
            if inputs != outputs:
                yield layer, block, "shortcut", (outputs, inputs, 1, 1)
            inputs = outputs


def _norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)


def _torchvision(architecture: str) -> Iterator[tuple[str, Shape]]:
    yield "conv1.weight", (64, 3, 7, 7)
    yield from _norm("bn1", 64)
    for layer, block, which, shape in _convolutions(architecture):
        below = f"layer{layer}.{block}"
        convolution, norm = (
            (f"{below}.downsample.0", f"{below}.downsample.1")
            if which == "shortcut"
            else (f"{below}.{which}", f"{below}.bn{which[-1]}")
        )
        yield f"{convolution}.weight", shape
        yield from _norm(norm, shape[0])


def _detectron2(architecture: str) -> Iterator[tuple[str, Shape]]:
    yield "stem.conv1.weight", (64, 3, 7, 7)
    yield from _norm("stem.conv1.norm", 64)
    for layer, block, which, shape in _convolutions(architecture):
        below = f"res{layer + 1}.{block}.{which}"
        yield f"{below}.weight", shape
        yield from _norm(f"{below}.norm", shape[0])

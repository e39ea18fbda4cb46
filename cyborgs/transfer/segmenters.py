"""A fully convolutional network around a pretrained ResNet, as mmsegmentation's FCN-D8 has it (Long et al. 2015).

Axes: B photographs, C channels, L classes, H x W pixels, h x w cells of stride 8.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyborgs.networks.backbone import Backbone

_CHANNELS, _AUXILIARY_CHANNELS = 512, 256
_DROPOUT = 0.1
AUXILIARY_WEIGHT = 0.4
"""Of the loss on the map before the last."""


class Fcn(nn.Module):
    """Class scores for every pixel; every layer of the backbone is trained."""

    def __init__(self, backbone: Backbone, classes: int, *, align_corners: bool) -> None:
        """
        Args:
            backbone: its modules become the network's own; strides of its last two layers turn into dilation.
            classes: L.
            align_corners: how scores are brought to the photograph's size (mmsegmentation: with crops of 769).
        """
        super().__init__()
        dilate(backbone, "layer3", 2)
        dilate(backbone, "layer4", 4)
        self.backbone = backbone
        self.head = _Head(backbone.channels("layer4"), _CHANNELS, classes, convolutions=2, skip=True)
        self.auxiliary = _Head(backbone.channels("layer3"), _AUXILIARY_CHANNELS, classes, convolutions=1, skip=False)
        self._align_corners = align_corners

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, L, H, W) scores."""
        features = self.backbone(images, ["layer4"])["layer4"]
        return self._grown(self.head(features), images)

    def losses(self, images: Tensor, labels: Tensor, *, void: int) -> dict[str, Tensor]:
        """Cross-entropy of both heads: sum over labelled pixels over the number of all, as mmsegmentation has it.

        Args:
            labels: (B, H, W) int64 classes, `void` where unlabelled.
        """
        maps = self.backbone(images, ["layer3", "layer4"])
        scores = {"last": self.head(maps["layer4"]), "auxiliary": self.auxiliary(maps["layer3"])}
        found = {
            name: F.cross_entropy(self._grown(each, images).float(), labels, ignore_index=void, reduction="sum")
            / labels.numel()
            for name, each in scores.items()
        }
        return {"last": found["last"], "auxiliary": AUXILIARY_WEIGHT * found["auxiliary"]}

    def _grown(self, scores: Tensor, images: Tensor) -> Tensor:
        return F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=self._align_corners)


class _Head(nn.Module):
    """3x3 convolutions, then one 1x1; with `skip`, the map itself stands beside what the first ones made of it."""

    def __init__(self, inputs: int, channels: int, classes: int, *, convolutions: int, skip: bool) -> None:
        super().__init__()
        widths = (inputs, *(channels,) * convolutions)
        self.convolutions = nn.Sequential(*map(_block, widths, widths[1:]))
        self.joined = _block(inputs + channels, channels) if skip else None
        last = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(last.weight, std=0.01)  # as mmsegmentation's heads start
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.classify = nn.Sequential(nn.Dropout2d(_DROPOUT), last)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.convolutions(features)
        if self.joined is not None:
            found = self.joined(torch.cat([features, found], dim=1))
        scores: Tensor = self.classify(found)
        return scores


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def dilate(backbone: Backbone, layer: str, dilation: int) -> None:
    """Let a layer keep its input's size: its stride becomes 1, and its 3x3 convolutions see `dilation` cells apart.

    The first of them sees half as far, as in torchvision's and mmsegmentation's dilated ResNets. Weights stay.
    """
    first = True
    for module in backbone.get_submodule(layer).modules():
        if not isinstance(module, nn.Conv2d):
            continue
        module.stride = (1, 1)
        if module.kernel_size == (3, 3):
            apart = dilation // 2 if first else dilation
            module.dilation = module.padding = (apart, apart)
            first = False


@torch.no_grad()
def classify_pixels(
    network: nn.Module,
    images: Tensor,
    size: tuple[int, int],
    *,
    window: int | None,
    stride: int,
    align_corners: bool = False,
) -> Tensor:
    """Classes of the highest score, at the photograph's own size.

    Args:
        network: (B, 3, h, w) -> (B, L, h, w) scores, in evaluation mode.
        images: (1, 3, H, W) normalised, at the size that it is measured at.
        size: height and width of the answer, to which scores are interpolated.
        window: side of square windows whose scores are averaged where they overlap; None for the photograph at once.
        stride: pixels between two windows.

    Returns:
        `size` int64.
    """
    scores = _window_scores(network, images, window or max(images.shape), stride)
    return F.interpolate(scores, size, mode="bilinear", align_corners=align_corners)[0].argmax(dim=0)


def _window_scores(network: nn.Module, images: Tensor, window: int, stride: int) -> Tensor:
    """(1, L, H, W) float32."""
    height, width = images.shape[-2:]
    total: Tensor | None = None
    counts = torch.zeros((height, width), device=images.device)
    for top in _places(height, window, stride):
        for left in _places(width, window, stride):
            here = (..., slice(top, top + window), slice(left, left + window))
            scores = network(images[here]).float()
            if total is None:
                total = scores.new_zeros((1, scores.shape[1], height, width))
            total[here] += scores
            counts[here] += 1
    assert total is not None
    return total / counts


def _places(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin: a stride apart, the last one at the end."""
    last = max(side - window, 0)
    return [*range(0, last, stride), last]

"""A torchvision ResNet that hands out the feature maps of chosen layers and runs no further than needed."""

import copy
from collections.abc import Iterable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LAYERS = ("layer1", "layer2", "layer3", "layer4")


class Backbone(nn.Module):
    """A ResNet without its classifier; its state dict has torchvision's names, so weights travel both ways.

    A layer is named `layer2` (its last block) or `layer2.1` (that block).
    """

    def __init__(self, architecture: str, *, seed: int) -> None:
        super().__init__()
        # torchvision initialises from torch's global state: lend it one of ours, and put it back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = torchvision.models.get_model(architecture, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = (
            network.conv1,
            network.bn1,
            network.relu,
            network.maxpool,
        )
        for layer in LAYERS:
            setattr(self, layer, getattr(network, layer))

    def channels(self, layer: str) -> int:
        """Channels of a layer's feature map."""
        block = self._blocks(layer.split(".")[0])[-1]
        last = block.get_submodule("conv3" if hasattr(block, "conv3") else "conv2")
        assert isinstance(last, nn.Conv2d)
        return last.out_channels

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Feature maps by layer name.

        Args:
            images: (B, 3, H, W), normalised by ImageNet's mean and standard deviation.
            layers: names of the wanted layers.

        Returns:
            name -> (B, C, H / stride, W / stride), sides rounded up.

        Raises:
            KeyError: the network has no such layer.
        """
        layers = tuple(layers)
        for layer in layers:
            if layer.split(".")[0] not in LAYERS:
                raise KeyError(f"no layer {layer!r} in this network")
        wanted = {self._full_name(layer) for layer in layers}
        found: dict[str, Tensor] = {}
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for layer in LAYERS:
            for number, block in enumerate(self._blocks(layer)):
                features = block(features)
                name = f"{layer}.{number}"
                if name in wanted:
                    found[name] = features
                    if len(found) == len(wanted):
                        return {name: found[self._full_name(name)] for name in layers}
        raise KeyError(f"no layer {sorted(wanted - set(found))} in this network")

    def folded(self) -> "Backbone":
        """A copy in evaluation mode whose batch-norms are part of the convolutions before them: the same function to
        rounding, with a pass less over every feature map. For inference alone.
        """
        network = copy.deepcopy(self).eval()
        for name, norm in list(network.named_modules()):
            if isinstance(norm, nn.BatchNorm2d):
                before = name.replace("bn", "conv").replace("downsample.1", "downsample.0")
                convolution = network.get_submodule(before)
                assert isinstance(convolution, nn.Conv2d)
                network.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
                network.set_submodule(name, nn.Identity())
        return network

    def _full_name(self, layer: str) -> str:
        return layer if "." in layer else f"{layer}.{len(self._blocks(layer)) - 1}"

    def _blocks(self, layer: str) -> nn.Sequential:
        blocks = getattr(self, layer)
        assert isinstance(blocks, nn.Sequential)
        return blocks

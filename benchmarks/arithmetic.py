"""The arithmetic that a training step cannot do without: torchvision's layers and the heads, and nothing around them.

Axes: B images, S the crop side, R regions, C channels, D dimensions.
"""

import copy
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True)
class Heads:
    """Sizes of projector and predictor."""

    vectors: int
    """B x R."""
    channels: int
    hidden: int
    dim: int

    def projector(self) -> nn.Sequential:
        """Linear, batch-norm, ReLU, Linear."""
        return _mlp(self.channels, self.hidden, self.dim)

    def predictor(self) -> nn.Sequential:
        """As the projector, on projections."""
        return _mlp(self.dim, self.hidden, self.dim)


class BareStep:
    """Two views forward and backward through an online network, forward through a target network, in train mode.

    Gradients come in at the last layer and at the predictions; no loss, regions, optimiser or moving average.
    """

    def __init__(
        self,
        architecture: str,
        *,
        layer: str,
        images: int,
        size: int,
        heads: Heads | None,
        bfloat16: bool,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            layer: the last one that runs, such as `layer4` or `layer2.2`.
            heads: left out for warm-up, which has none.
            device: "meta" counts without computing.
        """
        self._device, self._bfloat16 = torch.device(device), bfloat16
        with self._device:
            self.online = layers_until(architecture, layer).to(memory_format=torch.channels_last)
            self._projector = heads.projector() if heads else None
            self._predictor = heads.predictor() if heads else None
            shape = (images, 3, size, size)
            self._views = [torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2)]
            self._vectors = (
                [torch.randn(heads.vectors, heads.channels, requires_grad=True) for _ in range(2)] if heads else []
            )
        self._target = copy.deepcopy(self.online).requires_grad_(False)
        self._target_projector = copy.deepcopy(self._projector).requires_grad_(False) if self._projector else None
        self._gradients = [torch.ones_like(output) for output in self._learn()]

    def __call__(self) -> None:
        """One step's arithmetic."""
        outputs = self._learn()
        torch.autograd.backward(outputs, self._gradients)
        with torch.no_grad(), self._precision():
            for view in self._views:
                self._target(view)
            if self._target_projector is not None:
                for vectors in self._vectors:
                    self._target_projector(vectors)

    def forget(self) -> None:
        """Drop the gradients, as an optimiser's `zero_grad` does before a step."""
        for module in (self.online, self._projector, self._predictor):
            if module is not None:
                module.zero_grad(set_to_none=True)
        for vectors in self._vectors:
            vectors.grad = None

    def _learn(self) -> list[Tensor]:
        with self._precision():
            outputs = [self.online(view) for view in self._views]
            if self._projector is not None and self._predictor is not None:
                outputs += [self._predictor(self._projector(vectors)) for vectors in self._vectors]
        return outputs

    def _precision(self) -> torch.autocast:
        kind = "cpu" if self._device.type == "meta" else self._device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._bfloat16)


def layers_until(architecture: str, layer: str) -> nn.Sequential:
    """A torchvision ResNet's layers up to `layer` (its last block) or `layer2.1` (that block), start weights random."""
    network = torchvision.models.get_model(architecture, weights=None)
    parts = [network.conv1, network.bn1, network.relu, network.maxpool]
    wanted, _, block = layer.partition(".")
    for name in ("layer1", "layer2", "layer3", "layer4"):
        blocks = getattr(network, name)
        if name == wanted:
            return nn.Sequential(*parts, *(blocks[: int(block) + 1] if block else blocks))
        parts += list(blocks)
    raise KeyError(f"no layer {layer!r} in {architecture}")


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs, bias=False)
    )

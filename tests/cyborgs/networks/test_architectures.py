"""The table that configs are checked against says what torchvision builds."""

import pytest
import torch
import torchvision

from cyborgs.networks.backbone import LAYERS, Backbone
from schemas.architectures import ARCHITECTURES, BLOCKS, feature_grid, layer_names, layer_stride


def test_every_architecture_is_in_the_table() -> None:
    assert set(BLOCKS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_and_names(architecture: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(architecture, weights=None)
    assert BLOCKS[architecture] == tuple(len(network.get_submodule(layer)) for layer in LAYERS)
    modules = [name for name, _ in network.named_modules() if name.startswith("layer") and name.count(".") <= 1]
    assert layer_names(architecture) == modules


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_strides(architecture: str) -> None:
    """Feature maps of a 65 x 96 input, without numbers: the grid is the input over the stride, rounded up."""
    with torch.device("meta"):
        backbone = Backbone(architecture, seed=0)
        maps = backbone(torch.empty(1, 3, 65, 96), layer_names(architecture))
    for layer, features in maps.items():
        assert tuple(features.shape[2:]) == feature_grid(65, 96, layer_stride(layer)), layer


@pytest.mark.parametrize("side", [1, 31, 32, 33, 63, 64, 97, 127, 224, 230])
def test_grids_of_odd_sides(side: int) -> None:
    with torch.device("meta"):
        maps = Backbone("resnet18", seed=0)(torch.empty(1, 3, side, 40), LAYERS)
    for layer in LAYERS:
        assert tuple(maps[layer].shape[2:]) == feature_grid(side, 40, layer_stride(layer))

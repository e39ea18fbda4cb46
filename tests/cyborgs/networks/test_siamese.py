"""Online and target network: a copy at the start, start weights, and heads over all regions of a batch."""

import copy

import pytest
import torch
from torch import nn

from cyborgs.networks.backbone import Backbone
from cyborgs.networks.siamese import RegionEncoder, SiameseNetwork, apply_to_regions, mlp
from tests.cyborgs.references import region_means


def _network(seed: int = 0, *, dim: int = 8) -> SiameseNetwork:
    return SiameseNetwork(
        architecture="resnet18",
        contrast_layers=("layer2", "layer3", "layer4"),
        region_grid=4,
        downsample="area",
        hidden=16,
        dim=dim,
        seed=seed,
    )


@pytest.fixture(scope="module")
def network() -> SiameseNetwork:
    return _network()


def test_target_starts_as_a_copy(network: SiameseNetwork) -> None:
    online, target = network.online.state_dict(), network.target.state_dict()
    assert online.keys() == target.keys()
    for name, tensor in online.items():
        assert tensor.equal(target[name]), name
        assert tensor.data_ptr() != target[name].data_ptr(), name


def test_only_the_online_side_learns(network: SiameseNetwork) -> None:
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in learning} == {"online", "predictor"}
    assert all(weight.requires_grad for weight in network.online.parameters())
    assert not any(weight.requires_grad for weight in network.target.parameters())


def test_start_weights_come_from_the_seed(network: SiameseNetwork) -> None:
    again, other = _network().state_dict(), _network(seed=1).state_dict()
    state = network.state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in state.items())
    for name in ("online.backbone.conv1.weight", "online.projector.0.weight", "predictor.0.weight"):
        assert not state[name].equal(other[name]), name


def test_heads_have_weights_of_their_own() -> None:
    """Projector and predictor of equal size do not start from the same numbers."""
    encoder = _network(dim=896)
    assert not encoder.online.projector[0].weight.equal(encoder.predictor[0].weight)  # type: ignore[operator]


def test_head_is_byols() -> None:
    """Linear, batch-norm, ReLU, Linear without bias: recomputed by hand in training mode."""
    head = mlp(5, 7, 3, seed=0)
    vectors = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    first, last = head[0], head[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    assert first.bias is not None
    assert last.bias is None
    hidden = vectors @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(head(vectors), hidden.clamp(min=0) @ last.weight.T, rtol=1e-4, atol=1e-5)


def test_statistics_are_taken_over_all_regions_of_a_batch() -> None:
    """The head sees B x R vectors in one go: a batch-norm centres over images and regions together."""
    vectors = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    found = apply_to_regions(nn.BatchNorm1d(6, affine=False), vectors)
    expected = (vectors - vectors.mean(dim=(0, 1))) / vectors.flatten(0, 1).std(dim=0, unbiased=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_regions_keep_their_places() -> None:
    vectors = torch.arange(24.0).reshape(2, 3, 4)
    assert apply_to_regions(nn.Identity(), vectors).equal(vectors)


def test_pool_is_the_mean_of_fused_cells(network: SiameseNetwork) -> None:
    """Layers on grids of 8, 4 and 2 cells for a grid of 4; channels in the order of the layers."""
    encoder: RegionEncoder = network.online
    random = torch.Generator().manual_seed(1)
    features = {
        "layer4": torch.randn(2, 5, 2, 2, generator=random, dtype=torch.float64),
        "layer2": torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64),
        "layer3": torch.randn(2, 4, 4, 4, generator=random, dtype=torch.float64),
    }
    labels = torch.randint(0, 3, (2, 4, 4), generator=random, dtype=torch.uint8)
    labels[:, 0, :3] = torch.tensor([0, 1, 2], dtype=torch.uint8)
    regions = torch.tensor([[2, 0, 0], [1, 2, 0]])
    down = features["layer2"].reshape(2, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    up = nn.functional.interpolate(features["layer4"], (4, 4), mode="bilinear")
    cells = torch.cat([down, features["layer3"], up], dim=1).flatten(2).transpose(1, 2)
    expected = region_means(cells.numpy(), labels.flatten(1).numpy(), regions.numpy())
    torch.testing.assert_close(
        encoder.pool(features, labels, regions).double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6
    )


def test_start_from_reaches_both_networks() -> None:
    network, start = _network(), Backbone("resnet18", seed=77).state_dict()
    projector = copy.deepcopy(network.online.projector.state_dict())
    network.start_from(start)
    for encoder in (network.online, network.target):
        assert all(tensor.equal(start[name]) for name, tensor in encoder.backbone.state_dict().items())
        assert all(tensor.equal(projector[name]) for name, tensor in encoder.projector.state_dict().items())


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_start_from_rejects_other_weights_and_changes_nothing(network: SiameseNetwork, fault: str) -> None:
    start = Backbone("resnet18", seed=77).state_dict()
    name = "layer3.0.conv1.weight"
    if fault == "missing":
        del start[name]
    elif fault == "unknown":
        name = "fc.weight"
        start[name] = torch.zeros(1000, 512)
    else:
        start[name] = torch.zeros(256, 128, 1, 1)
    before = network.online.backbone.conv1.weight.clone()
    with pytest.raises(ValueError, match=name):
        network.start_from(start)
    assert network.online.backbone.conv1.weight.equal(before)

"""The backbone is torchvision's network, stopped where the last wanted layer ends."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cyborgs.networks.backbone import Backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("resnet18", seed=3).eval()


@pytest.fixture(scope="module")
def theirs(backbone: Backbone) -> nn.Module:
    """torchvision's own network with the same weights."""
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(backbone.state_dict(), strict=False)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 70, 50, generator=torch.Generator().manual_seed(0))


def _watch(network: nn.Module, *names: str) -> dict[str, Tensor]:
    """Outputs of named modules, filled in while the network runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        network.get_submodule(name).register_forward_hook(lambda _, __, output: seen.update({name: output}))

    for name in names:
        keep(name)
    return seen


def test_layers_are_those_of_torchvision(backbone: Backbone, theirs: nn.Module, images: Tensor) -> None:
    names = ["layer1", "layer1.0", "layer2.0", "layer2", "layer3.1", "layer4.0", "layer4"]
    expected = _watch(theirs, *names)
    with torch.no_grad():
        theirs(images)
        found = backbone(images, names)
    assert list(found) == names
    for name in names:
        assert found[name].equal(expected[name]), name


def test_a_layers_name_means_its_last_block(backbone: Backbone, images: Tensor) -> None:
    with torch.no_grad():
        found = backbone(images, ["layer2", "layer2.1", "layer2.0"])
    assert found["layer2"].equal(found["layer2.1"])
    assert not found["layer2"].equal(found["layer2.0"])


def test_runs_no_further_than_needed(backbone: Backbone, images: Tensor) -> None:
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in backbone.named_modules()
        if name.count(".") == 1 and name.startswith("layer")
    ]
    with torch.no_grad():
        backbone(images, ["layer2.0", "layer1"])
    for hook in hooks:
        hook.remove()
    assert ran == ["layer1.0", "layer1.1", "layer2.0"]


def test_state_has_torchvisions_names_without_the_classifier() -> None:
    with torch.device("meta"):
        for architecture in ("resnet18", "resnet50"):
            expected = torchvision.models.get_model(architecture, weights=None).state_dict()
            found = Backbone(architecture, seed=0).state_dict()
            assert [name for name in expected if not name.startswith("fc.")] == list(found)
            assert all(tensor.shape == expected[name].shape for name, tensor in found.items())


def test_channels_are_those_of_the_feature_maps(backbone: Backbone, images: Tensor) -> None:
    names = ["layer1.0", "layer2", "layer3", "layer4.1"]
    with torch.no_grad():
        found = backbone(images, names)
    assert [backbone.channels(name) for name in names] == [found[name].shape[1] for name in names]


def test_channels_of_bottleneck_blocks() -> None:
    """ResNet-50: 512 + 1024 + 2048 = 3584 channels are fused (section 3.2)."""
    with torch.device("meta"):
        backbone = Backbone("resnet50", seed=0)
    assert [backbone.channels(layer) for layer in ("layer2.2", "layer2", "layer3", "layer4")] == [
        512,
        512,
        1024,
        2048,
    ]


def test_start_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = Backbone("resnet18", seed=5).conv1.weight
    state = torch.random.get_rng_state()
    again = Backbone("resnet18", seed=5).conv1.weight
    assert torch.random.get_rng_state().equal(state), "the global state is lent, not used up"
    assert first.equal(again)
    assert not first.equal(Backbone("resnet18", seed=6).conv1.weight)


def test_an_unknown_block_is_an_error(backbone: Backbone, images: Tensor) -> None:
    with torch.no_grad(), pytest.raises(KeyError, match=r"layer2\.7"):
        backbone(images, ["layer1", "layer2.7"])


def test_layers_may_be_any_iterable(backbone: Backbone, images: Tensor) -> None:
    """One that can be read only once gives the same maps as a list."""
    with torch.no_grad():
        found = backbone(images, (name for name in ("layer1", "layer2.0")))
        expected = backbone(images, ["layer1", "layer2.0"])
    assert list(found) == list(expected)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_folded_batch_norms_leave_the_function_as_it_is(architecture: str, images: Tensor) -> None:
    """With statistics, scales and shifts that are far from where they start."""
    network, random = Backbone(architecture, seed=1), torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                assert tensor is not None
                tensor.data.normal_(0, 0.3, generator=random)
            for tensor in (module.running_var, module.weight):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=random)
    layers = ("layer1", "layer2.0", "layer4")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = network.folded()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        expected, found = network.eval()(images, layers), folded(images, layers)
    for layer in layers:
        assert (found[layer] - expected[layer]).norm() <= 1e-5 * expected[layer].norm(), layer
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items()), "the original was changed"

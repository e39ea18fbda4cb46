"""FCN: strides, dilation against torchvision's own, losses by hand, windows."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from cyborgs.networks.backbone import Backbone
from cyborgs.transfer.segmenters import AUXILIARY_WEIGHT, Fcn, classify_pixels, dilate


def test_a_dilated_backbone_is_torchvisions() -> None:
    backbone = Backbone("resnet50", seed=1)
    reference = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    reference.load_state_dict(backbone.state_dict(), strict=False)
    dilate(backbone, "layer3", 2)
    dilate(backbone, "layer4", 4)
    images = torch.randn(1, 3, 64, 48)
    backbone.eval()
    reference.eval()
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            x = reference.get_submodule(layer)(x)
        found = backbone(images, ["layer4"])["layer4"]
    assert found.shape == (1, 2048, 8, 6)
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_every_layer_is_trained_and_scores_are_of_every_pixel(architecture: str) -> None:
    torch.manual_seed(0)
    network = Fcn(Backbone(architecture, seed=0), 4, align_corners=True)
    images, labels = torch.randn(2, 3, 41, 33), torch.randint(-1, 4, (2, 41, 33))
    assert network.eval()(images).shape == (2, 4, 41, 33)
    losses = network.train().losses(images, labels, void=-1)
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_losses_by_hand_leave_void_pixels_out() -> None:
    torch.manual_seed(0)
    network = Fcn(Backbone("resnet18", seed=0), 3, align_corners=False).eval()  # no dropout: both calls see the same
    images, labels = torch.randn(1, 3, 32, 32), torch.randint(0, 3, (1, 32, 32))
    labels[:, :10] = -1
    losses = network.losses(images, labels, void=-1)
    kept = labels != -1
    scores = network(images).permute(0, 2, 3, 1)[kept]
    share = kept.float().mean()
    torch.testing.assert_close(losses["last"], share * F.cross_entropy(scores, labels[kept]))
    maps = network.backbone(images, ["layer3"])["layer3"]
    grown = F.interpolate(network.auxiliary(maps), (32, 32), mode="bilinear", align_corners=False)
    wanted = share * AUXILIARY_WEIGHT * F.cross_entropy(grown.permute(0, 2, 3, 1)[kept], labels[kept])
    torch.testing.assert_close(losses["auxiliary"], wanted)
    nothing = network.losses(images, torch.full_like(labels, -1), void=-1)
    assert [float(each.detach()) for each in nothing.values()] == [0, 0]


class Colours(nn.Module):
    """Scores that are the colours themselves, and a record of what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return images


def test_windows_cover_all_and_agree_with_the_whole() -> None:
    images = torch.randn(1, 3, 50, 70)
    whole, windows = Colours(), Colours()
    expected = classify_pixels(whole, images, (50, 70), window=None, stride=1)
    found = classify_pixels(windows, images, (50, 70), window=32, stride=20)
    assert whole.seen == [(1, 3, 50, 70)]
    assert windows.seen == [(1, 3, 32, 32)] * 6
    assert found.equal(expected)
    assert expected.equal(images[0].argmax(dim=0))
    assert classify_pixels(whole, images, (100, 140), window=None, stride=1).shape == (100, 140)
    small = Colours()
    classify_pixels(small, images, (50, 70), window=64, stride=20)
    assert small.seen == [(1, 3, 50, 64)] * 2

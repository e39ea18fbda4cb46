"""Detectors: shapes, what is trained, and that the backbone's weights arrive."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cyborgs.networks.backbone import Backbone
from cyborgs.transfer.detectors import Sizes, faster_rcnn_c4, mask_rcnn_fpn

SIZES = Sizes([64, 96], 128, regions=16, proposals=20)


def target(*, masks: bool) -> dict[str, Tensor]:
    found = {"boxes": torch.tensor([[10.0, 12, 60, 50]]), "labels": torch.tensor([2])}
    if masks:
        found["masks"] = torch.zeros(1, 80, 100, dtype=torch.uint8)
        found["masks"][0, 12:50, 10:60] = 1
    return found


@pytest.mark.parametrize("build", [faster_rcnn_c4, mask_rcnn_fpn])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_the_backbones_weights_arrive(build: Callable[..., Any], architecture: str) -> None:
    backbone = Backbone(architecture, seed=3)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    inside = build(backbone, 5, SIZES).state_dict()
    for name, tensor in before.items():
        (found,) = [
            key for key in inside if key.endswith(name) and key.removesuffix(name) in
            ("backbone.", "backbone.body.", "roi_heads.box_head.")
        ]  # fmt: skip
        assert inside[found].equal(tensor), name


@pytest.mark.parametrize("build", [faster_rcnn_c4, mask_rcnn_fpn])
def test_every_layer_is_trained(build: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    detector = build(Backbone("resnet18", seed=3), 5, SIZES)
    images = [torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    masks = build is mask_rcnn_fpn
    losses = detector.train()(images, [target(masks=masks), target(masks=masks)])
    assert ("loss_mask" in losses) == masks
    sum(losses.values()).backward()
    assert [name for name, parameter in detector.named_parameters() if parameter.grad is None] == []
    found = detector.eval()(images)
    assert {"boxes", "labels", "scores"} <= found[0].keys()


def test_the_c4_detector_has_one_map_of_stride_16() -> None:
    detector = faster_rcnn_c4(Backbone("resnet50", seed=0), 20, SIZES)
    features = detector.backbone(torch.zeros(1, 3, 96, 128))
    assert features.shape == (1, 1024, 6, 8)
    assert detector.roi_heads.box_head(torch.zeros(3, 1024, 14, 14)).shape == (3, 2048)
    assert detector.rpn.anchor_generator.num_anchors_per_location() == [15]


def test_a_regions_cells_are_taken_half_a_pixel_in() -> None:
    """A map whose cells hold their own column: a box over cells 2 to 5 sees columns 2 to 5, each at its centre."""
    detector = faster_rcnn_c4(Backbone("resnet18", seed=0), 3, SIZES)
    grid = torch.arange(8.0).expand(1, 1, 8, 8)
    cells = detector.roi_heads.box_roi_pool({"0": grid}, [torch.tensor([[32.0, 32, 96, 96]])], [(128, 128)])
    assert cells.shape == (1, 1, 14, 14)
    # Cell c covers pixels 16 c to 16 c + 16, its centre lies at (x / 16) - 0.5.
    expected = 2 + (torch.arange(14) + 0.5) * 4 / 14 - 0.5
    torch.testing.assert_close(cells[0, 0, 7], expected, rtol=0, atol=0.3)
    assert cells[0, 0, 7].mean().item() == pytest.approx(3.5, abs=1e-4)

"""Faster and Mask R-CNN around a pretrained ResNet, from torchvision's parts, as the paper's recipes have them.

Axes: B photographs, C channels, H x W pixels, R regions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from cyborgs.networks.backbone import LAYERS, Backbone


@dataclass(frozen=True)
class Sizes:
    """How a detector resizes photographs, and what it keeps of what it finds."""

    short_sides: Sequence[int]
    """Pixels, of which one is drawn for each photograph in training; measured at the last one."""
    max_side: int
    """The largest longer side in pixels."""
    regions: int = 512
    """Per photograph, that the head learns from."""
    proposals: int = 1000
    """Per photograph, that the head looks at when it is measured."""
    min_score: float = 0.05
    most_detections: int = 100


class _Mixed(nn.Module):
    """Runs in bfloat16 where that is asked for and hands float32 on: boxes have more digits than bfloat16 holds."""

    in_bfloat16 = False

    def forward(self, *given: Any) -> Any:
        device = next(self.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.in_bfloat16):
            found = super().forward(*given)
        if isinstance(found, dict):
            return OrderedDict((name, each.float()) for name, each in found.items())
        return found.float()


class _Pyramid(_Mixed, BackboneWithFPN):  # type: ignore[misc]
    pass


class _BoxHead(_Mixed, FastRCNNConvFCHead):  # type: ignore[misc]
    pass


class _MaskHead(_Mixed, MaskRCNNHeads):  # type: ignore[misc]
    pass


SIZES = (32, 64, 128, 256, 512)
"""Sides of the anchors in pixels."""
RATIOS = (0.5, 1.0, 2.0)
_C4_CELLS, _C4_STRIDE = 14, 16
_MASK_CELLS = 14
_FPN_CHANNELS = 256
_MASK_CHANNELS = (256, 256, 256, 256)


class _Trunk(_Mixed, nn.Sequential):
    """The backbone up to layer3, one feature map of stride 16: what the head's layer4 works on."""

    def __init__(self, backbone: Backbone) -> None:
        names = ("conv1", "bn1", "relu", "maxpool", *LAYERS[:3])
        super().__init__(OrderedDict((name, backbone.get_submodule(name)) for name in names))
        self.out_channels = backbone.channels("layer3")


class _Cells(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign on the one map, with Detectron2's half-pixel offset, which torchvision's pooling over levels lacks."""

    def __init__(self) -> None:
        super().__init__(["0"], _C4_CELLS, 0)

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], _sizes: list[tuple[int, int]]) -> Tensor:
        """(R, C, 14, 14) of all photographs' boxes."""
        (grid,) = features.values()
        cells: Tensor = roi_align(grid, boxes, _C4_CELLS, 1 / _C4_STRIDE, sampling_ratio=0, aligned=True)
        return cells


class _RegionLayers(nn.Module):
    """layer4 over each region's cells, a batch-norm of its own, and their mean: (R, C, 14, 14) -> (R, C')."""

    def __init__(self, layer4: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer4 = layer4
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, regions: Tensor) -> Tensor:
        found: Tensor = self.norm(self.layer4(regions)).mean(dim=(2, 3))
        return found


class _C4Head(_Mixed, _RegionLayers):
    pass


def faster_rcnn_c4(backbone: Backbone, classes: int, sizes: Sizes, *, bfloat16: bool = False) -> FasterRCNN:
    """Faster R-CNN on the stride-16 map, with layer4 as the head (Ren et al. 2015; Detectron2's R50-C4).

    As He et al. (2020, MoCo) fine-tune it: every layer is trained, batch-norms too, with one more behind layer4.

    Args:
        backbone: its modules become the detector's own.
        classes: without the background.
        bfloat16: of feature maps and heads; proposals, boxes and losses are float32.
    """
    channels = backbone.channels("layer4")
    detector = FasterRCNN(
        _Trunk(backbone),
        **_kept(sizes),
        rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
        rpn_pre_nms_top_n_train=12000,
        rpn_pre_nms_top_n_test=6000,
        box_roi_pool=_Cells(),
        box_head=_C4Head(backbone.get_submodule("layer4"), channels),
        box_predictor=FastRCNNPredictor(channels, classes + 1),
    )
    return _mixed(detector, bfloat16)


def mask_rcnn_fpn(
    backbone: Backbone, classes: int, sizes: Sizes, *, masks: bool = True, bfloat16: bool = False
) -> FasterRCNN:
    """Mask R-CNN on a feature pyramid (He et al. 2017; Detectron2's R50-FPN), batch-norms in pyramid and heads.

    As He et al. (2020, MoCo) fine-tune it: every layer is trained; the box head has four convolutions and one layer.

    Args:
        backbone: its modules become the detector's own.
        classes: without the background.
        masks: false leaves out the mask branch: Faster R-CNN, for data with boxes alone.
        bfloat16: of feature maps and heads; proposals, boxes and losses are float32.
    """
    pyramid = _Pyramid(
        backbone,
        {layer: str(number) for number, layer in enumerate(LAYERS)},
        [backbone.channels(layer) for layer in LAYERS],
        _FPN_CHANNELS,
        norm_layer=nn.BatchNorm2d,
    )
    shared: dict[str, Any] = {
        **_kept(sizes),
        "rpn_anchor_generator": AnchorGenerator(tuple((size,) for size in SIZES), (RATIOS,) * len(SIZES)),
        "rpn_post_nms_top_n_train": 1000,
        "box_head": _BoxHead((_FPN_CHANNELS, 7, 7), [_FPN_CHANNELS] * 4, [1024], norm_layer=nn.BatchNorm2d),
        "box_predictor": FastRCNNPredictor(1024, classes + 1),
    }
    if not masks:
        return _mixed(FasterRCNN(pyramid, **shared), bfloat16)
    detector = MaskRCNN(
        pyramid,
        **shared,
        mask_roi_pool=MultiScaleRoIAlign([str(n) for n in range(len(LAYERS))], _MASK_CELLS, 2),
        mask_head=_MaskHead(_FPN_CHANNELS, _MASK_CHANNELS, 1, norm_layer=nn.BatchNorm2d),
        mask_predictor=MaskRCNNPredictor(_MASK_CHANNELS[-1], 256, classes + 1),
    )
    return _mixed(detector, bfloat16)


def _mixed(detector: FasterRCNN, bfloat16: bool) -> FasterRCNN:
    for module in detector.modules():
        if isinstance(module, _Mixed):
            module.in_bfloat16 = bfloat16
    return detector


def _kept(sizes: Sizes) -> dict[str, Any]:
    return {
        "min_size": list(sizes.short_sides),
        "max_size": sizes.max_side,
        "box_batch_size_per_image": sizes.regions,
        "rpn_post_nms_top_n_test": sizes.proposals,
        "box_score_thresh": sizes.min_score,
        "box_detections_per_img": sizes.most_detections,
    }

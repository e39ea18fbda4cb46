"""The protocols that fine-tune: each with its data, its network and its scores."""

from collections.abc import Callable
from pathlib import Path

from schemas.planned_protocols import TransferName
from schemas.protocol_settings import ProtocolSettings
from stages.attempt import Attempt
from stages.measured import Measured
from stages.transfer.classification import imagenet_semi
from stages.transfer.detection import coco_instance, lvis_instance, voc_detection
from stages.transfer.segmentation import cityscapes_fcn, cocostuff_fcn
from stages.weights import Weights

TRANSFER: dict[TransferName, Callable[[Weights, Path, ProtocolSettings, Attempt], Measured]] = {
    "imagenet-semi": imagenet_semi,
    "voc-detection": voc_detection,
    "coco-instance": coco_instance,
    "lvis-instance": lvis_instance,
    "cityscapes-fcn": cityscapes_fcn,
    "cocostuff-fcn": cocostuff_fcn,
}

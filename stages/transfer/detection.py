"""Protocols voc-detection, coco-instance (Table 1) and lvis-instance (Table C.2): detectors, and their AP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from cyborgs.augmentation.pixels import to_tensor
from cyborgs.evaluation.frozen import Figures, Samples
from cyborgs.networks.backbone import Backbone
from cyborgs.transfer.detection_views import DetectionSample, Target, draw_detection
from cyborgs.transfer.detectors import Sizes, faster_rcnn_c4, mask_rcnn_fpn
from cyborgs.transfer.object_scores import as_results, average_precisions
from cyborgs.transfer.samples import DrawnSamples, repeated
from schemas.errors import ConfigError, DataError
from schemas.fine_tuning import CocoInstanceSettings, DetectionSettings, LvisInstanceSettings, VocDetectionSettings
from schemas.protocol_settings import ProtocolSettings
from stages.attempt import Attempt
from stages.fine_tuning import fine_tune, need_labels, write_network
from stages.measured import Mapped, Measured
from stages.readers.coco_objects import CocoSplit, Objects, coco_objects
from stages.readers.samples import Split
from stages.readers.voc import CLASSES
from stages.readers.voc_objects import VocObject, voc_objects
from stages.transfer.common import build, identity, meet, rows_learnt_from, shared
from stages.weights import Weights

_OLD = ("backbone.", "roi_heads.box_head.layer4.")
"""Where the pretrained layers are within a detector."""


@dataclass(frozen=True)
class _Data:
    """What a detector learns from and is measured on."""

    train: Split[Any]
    samples: Samples[DetectionSample]
    rows: Sequence[int]
    """What one time through consists of."""
    test: Split[Any]
    photographs: Samples[Image.Image]
    truth: dict[str, Any]
    """A COCO json of the test split."""
    image_ids: list[int]
    categories: list[int]
    """Class from 1 on -> the data set's number."""
    names: list[str]
    splits: tuple[str, str]
    """What the splits are called."""


def voc_detection(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """Box AP of Faster R-CNN, R50-C4."""
    assert isinstance(settings, VocDetectionSettings)
    train = voc_objects(root, settings.train, most=settings.max_images)
    train = train.of(rows_learnt_from(len(train.samples), settings))
    test = voc_objects(root, settings.test, most=settings.max_images)

    def sample(pair: tuple[Image.Image, list[VocObject]]) -> DetectionSample:
        photograph, objects = pair
        boxes = np.array([each.box for each in objects], np.float32).reshape(-1, 4)
        return DetectionSample(photograph, boxes, np.array([each.category + 1 for each in objects], np.int64))

    data = _Data(
        train,
        Mapped(train.samples, sample),
        range(len(train.samples)),
        test,
        Mapped(test.samples, lambda pair: pair[0]),
        truth := test.truth(),
        [image["id"] for image in truth["images"]],
        list(range(len(CLASSES))),
        list(CLASSES),
        ("+".join(settings.train), "+".join(settings.test)),
    )

    def make(backbone: Backbone) -> FasterRCNN:
        return faster_rcnn_c4(backbone, len(CLASSES), _sizes(settings), bfloat16=settings.precision == "bfloat16")

    return _detect("voc-detection", weights, data, make, settings, attempt, kinds=("bbox",))


def coco_instance(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """Box and mask AP of Mask R-CNN, R50-FPN."""
    assert isinstance(settings, CocoInstanceSettings)
    train = coco_objects(root, settings.train, most=settings.max_images, shapes=settings.masks)
    test = coco_objects(root, settings.test, most=settings.max_images, shapes=settings.masks, empty=True)
    data = _coco_data(train, test, settings, (settings.train, settings.test), masks=settings.masks)
    return _instances("coco-instance", weights, data, settings, attempt, masks=settings.masks)


def lvis_instance(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """The same by LVIS' rules: classes that nobody looked for on a photograph count neither way there."""
    assert isinstance(settings, LvisInstanceSettings)
    if find_spec("lvis") is None:
        raise ConfigError(
            "lvis-instance: needs the package lvis, which is not installed here: pip install 'cyborgs[lvis]'"
        )
    from cyborgs.transfer.lvis_scores import lvis_precisions

    train = coco_objects(root, settings.train, most=settings.max_images, lvis=True)
    test = coco_objects(root, settings.test, most=settings.max_images, lvis=True, empty=True)
    data = _coco_data(train, test, settings, (settings.train, settings.test), masks=True)
    return _instances("lvis-instance", weights, data, settings, attempt, masks=True, score=lvis_precisions)


def _coco_data(
    train: CocoSplit, test: CocoSplit, settings: DetectionSettings, splits: tuple[str, str], *, masks: bool
) -> _Data:
    for number, called in test.names.items():
        if train.names.get(number, called) != called:
            raise DataError(
                f"category {number} is {train.names[number]!r} in {splits[0]} and {called!r} in {splits[1]}: "
                "number both alike"
            )
    names = train.names | test.names
    categories = sorted(names)
    classes = {number: place for place, number in enumerate(categories, start=1)}
    train = train.of(rows_learnt_from(len(train.samples), settings))
    shown = [[classes[each["category_id"]] for each in train.annotations[name]] for name in train.samples.items]
    threshold = settings.repeat_threshold if isinstance(settings, LvisInstanceSettings) else 0.0
    rows = repeated(shown, threshold, seed=settings.seed) if threshold else range(len(shown))

    def sample(objects: Objects) -> DetectionSample:
        size = (objects.photograph.height, objects.photograph.width)
        return DetectionSample(
            objects.photograph,
            np.array(objects.boxes, np.float32).reshape(-1, 4),
            np.array([classes[number] for number in objects.categories], np.int64),
            np.array(objects.masks, np.uint8).reshape(-1, *size) if masks else None,
        )

    return _Data(
        train,
        Mapped(train.samples, sample),
        rows,
        test,
        Mapped(test.samples, lambda objects: objects.photograph),
        truth := test.truth(),
        [image["id"] for image in truth["images"]],
        categories,
        [names[number] for number in categories],
        splits,
    )


def _instances(
    name: str,
    weights: Weights,
    data: _Data,
    settings: DetectionSettings,
    attempt: Attempt,
    *,
    masks: bool,
    score: Callable[..., dict[str, float]] = average_precisions,
) -> Measured:
    def make(backbone: Backbone) -> FasterRCNN:
        bfloat16 = settings.precision == "bfloat16"
        return mask_rcnn_fpn(backbone, len(data.names), _sizes(settings), masks=masks, bfloat16=bfloat16)

    kinds = ("bbox", "segm") if masks else ("bbox",)
    return _detect(name, weights, data, make, settings, attempt, kinds=kinds, score=score)


def _detect(
    name: str,
    weights: Weights,
    data: _Data,
    make: Callable[[Backbone], FasterRCNN],
    settings: DetectionSettings,
    attempt: Attempt,
    *,
    kinds: Sequence[str],
    score: Callable[..., dict[str, float]] = average_precisions,
) -> Measured:
    need_labels(len(data.rows), data.splits[0], data.train.left_out)
    device, world = meet(settings, attempt)
    network = build(weights, make, settings.seed).to(device)

    def losses(network: nn.Module, batch: list[tuple[Tensor, Target]]) -> dict[str, Tensor]:
        images = [_levels(image, device) for image, _ in batch]
        targets = [{key: each.to(device, non_blocking=True) for key, each in target.items()} for _, target in batch]
        found: dict[str, Tensor] = network(images, targets)
        return found

    fine_tune(
        name,
        network,
        DrawnSamples(data.samples, draw_detection, seed=settings.seed, threads=settings.workers, rows=data.rows),
        losses,
        settings,
        is_head=lambda parameter: not parameter.startswith(_OLD) or "fpn" in parameter,
        steps=settings.steps,
        identity=identity(weights, data.train, settings),
        world=world,
        attempt=attempt,
        autocast=False,
    )
    write_network(name, network, settings, attempt, architecture=weights.used.architecture, classes=data.names)
    found: list[dict[str, Any]] = []
    for row, photograph in shared(data.photographs, world, attempt, threads=settings.workers):
        with torch.no_grad():
            (output,) = network([_levels(to_tensor(photograph), device)])
        found += as_results(output, image_id=data.image_ids[row], categories=data.categories, masks="segm" in kinds)
    found = world.gather_objects(found)
    values: dict[str, float] = {}
    if attempt.team.leads:
        for kind in kinds:
            scores = score(data.truth, found, kind)
            values |= {f"{'box' if kind == 'bbox' else 'mask'}_{figure}": each for figure, each in scores.items()}
    asked = {each["category_id"] for each in data.truth["annotations"]}
    # Of LVIS' 1203 classes the validation split shows not all, and is whole all the same.
    classes = len(data.truth["categories"]) if name == "lvis-instance" else len(asked)
    counts = {
        "classes": float(classes),
        "detections": float(len(found)),
        "learnt_from": float(len(data.train.samples)),
    }
    skipped = {} if asked else {"all photographs": "the test split shows no object"}
    return Measured(Figures(values | counts, skipped), dict(zip(data.splits, (data.train, data.test), strict=True)))


def _levels(image: Tensor, device: torch.device) -> Tensor:
    """(3, H, W) uint8 -> float32 from 0 to 1 on the device, as torchvision's detectors take it."""
    sent = image.pin_memory() if device.type == "cuda" else image
    return sent.to(device, non_blocking=True).float().div_(255)


def _sizes(settings: DetectionSettings) -> Sizes:
    return Sizes(
        settings.short_sides,
        settings.max_side,
        settings.regions,
        settings.proposals,
        settings.min_score,
        settings.most_detections,
    )

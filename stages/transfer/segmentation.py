"""Protocols cityscapes-fcn (Table C.1) and cocostuff-fcn (Fig. 5): an FCN fine-tuned end to end; mIoU."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.evaluation.cocostuff_linear import mean_iou
from cyborgs.evaluation.frozen import Figures
from cyborgs.transfer.samples import DrawnSamples
from cyborgs.transfer.segmentation_views import VOID, LabelledPhotograph, SegmentationViews
from cyborgs.transfer.segmenters import Fcn, classify_pixels
from schemas.errors import DataError
from schemas.fine_tuning import CityscapesFcnSettings, CocostuffFcnSettings, FcnSettings
from schemas.protocol_settings import ProtocolSettings
from stages.attempt import Attempt
from stages.fine_tuning import fine_tune, need_labels, photographs_on, write_network
from stages.measured import Measured
from stages.readers.cityscapes import cityscapes
from stages.readers.label_maps import label_maps
from stages.readers.samples import Split
from stages.transfer.common import build, identity, meet, rows_learnt_from, shared
from stages.weights import Weights


def cityscapes_fcn(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """mIoU of Cityscapes' 19 classes."""
    assert isinstance(settings, CityscapesFcnSettings)
    train = cityscapes(root, settings.train, most=settings.max_images)
    test = cityscapes(root, settings.test, most=settings.max_images)
    return _segment("cityscapes-fcn", weights, train, test, (settings.train, settings.test), settings, attempt)


def cocostuff_fcn(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """mIoU over the classes of the test split."""
    assert isinstance(settings, CocostuffFcnSettings)
    train = label_maps(root, settings.train, void=settings.void, most=settings.max_images)
    test = label_maps(root, settings.test, void=settings.void, most=settings.max_images)
    return _segment("cocostuff-fcn", weights, train, test, (settings.train, settings.test), settings, attempt)


def _segment(
    name: str,
    weights: Weights,
    whole: Split[LabelledPhotograph],
    test: Split[LabelledPhotograph],
    splits: tuple[str, str],
    settings: FcnSettings,
    attempt: Attempt,
) -> Measured:
    need_labels(len(whole.samples), splits[0], whole.left_out)
    device, world = meet(settings, attempt)
    train = whole.of(rows_learnt_from(len(whole.samples), settings))
    network = build(
        weights, lambda backbone: Fcn(backbone, settings.classes, align_corners=settings.align_corners), settings.seed
    ).to(device)
    views = SegmentationViews(settings.long_side, settings.short_side, settings.ratio, settings.crop)

    def draw(sample: LabelledPhotograph, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        _check_classes(sample[1], settings.classes)
        return views.draw(sample, random)

    def losses(network: nn.Module, batch: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        assert isinstance(network, Fcn)
        images = normalise(photographs_on([image for image, _ in batch], device))
        labels = photographs_on([each for _, each in batch], device)
        return network.losses(images, labels, void=VOID)

    fine_tune(
        name,
        network,
        DrawnSamples(train.samples, draw, seed=settings.seed, threads=settings.workers),
        losses,
        settings,
        is_head=lambda parameter: not parameter.startswith("backbone."),
        steps=settings.steps,
        identity=identity(weights, train, settings),
        world=world,
        attempt=attempt,
    )
    write_network(name, network, settings, attempt, architecture=weights.used.architecture)
    counts = torch.zeros((settings.classes + 1, settings.classes), dtype=torch.int64)
    for _, (photograph, labels) in shared(test.samples, world, attempt, threads=settings.workers):
        _check_classes(labels, settings.classes)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            images = normalise(to_tensor(views.measured(photograph)).unsqueeze(0).to(device))
            predicted = classify_pixels(
                network,
                images,
                (photograph.height, photograph.width),
                window=settings.window,
                stride=settings.window_stride,
                align_corners=settings.align_corners,
            )
        counted = labels != VOID
        pairs = labels[counted].astype(np.int64) * settings.classes + predicted.cpu().numpy()[counted]
        counts += torch.from_numpy(np.bincount(pairs, minlength=counts.numel()).reshape(counts.shape))
    counts = world.sum(counts)
    found = counts.numpy()
    if not found.sum():
        figures = Figures({}, {"all photographs": "the test split shows no labelled pixel"})
    else:
        figures = Figures(
            {
                "miou": 100 * mean_iou(found),
                "pixel_accuracy": 100 * float(np.trace(found) / found.sum()),
                "classes": float((found.sum(axis=1) > 0).sum()),
                "learnt_from": float(len(train.samples)),
            }
        )
    return Measured(figures, dict(zip(splits, (train, test), strict=True)))


def _check_classes(labels: NDArray[np.int32], classes: int) -> None:
    if labels.max() >= classes:
        raise DataError(
            f"--data: a label map holds the value {labels.max()}, and `classes` is {classes}: raise it, or name the "
            "value of unlabelled pixels by --set void=N"
        )

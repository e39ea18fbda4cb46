"""Each protocol: its data read, its settings filled in, and what it finds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cyborgs.clustering.crf import Crf
from cyborgs.evaluation.frozen import Figures, Samples
from cyborgs.evaluation.mask_quality import Annotation, Labels
from schemas.architectures import layer_names
from schemas.errors import ConfigError, DataError
from schemas.masks import MasksConfig
from schemas.planned_protocols import FrozenName
from schemas.protocol_settings import LearningSettings, ProtocolSettings
from schemas.protocols import (
    CocostuffLinearSettings,
    KnnSettings,
    MaskQualitySettings,
    RegionLinearSettings,
    Voc07SvmSettings,
    mask_layer,
)
from stages.build import crf_of
from stages.measured import Mapped, Measured
from stages.readers.coco_objects import CocoSplit, coco_objects, paint
from stages.readers.image_folder import image_folder
from stages.readers.label_maps import bsds, label_maps
from stages.readers.samples import Split, random_share
from stages.readers.voc import CLASSES, voc, voc_root
from stages.run_masks import masks_by_photograph
from stages.weights import Weights


def _layers(wanted: Sequence[str], weights: Weights) -> list[str]:
    """Raises ConfigError where the network has no such layer."""
    known = layer_names(weights.used.architecture)
    for layer in wanted:
        if layer not in known:
            raise ConfigError(f"layer: {weights.used.architecture} has no layer {layer!r}; it has {', '.join(known)}")
    return list(wanted)


def _rows(count: int, settings: LearningSettings, classes: Sequence[int] | None = None) -> list[int]:
    """Of a training split: the rows whose labels are used."""
    return random_share(count, settings.labels, seed=settings.seed, classes=classes)


def _mask_quality(weights: Weights, root: Path, settings: ProtocolSettings) -> Measured:
    from cyborgs.evaluation.mask_quality import SCORES, mask_quality, masks_of

    assert isinstance(settings, MaskQualitySettings)
    split, annotated = _annotated(root, settings)
    own = weights.run.config.masks if weights.run is not None else MasksConfig()
    of_paper = own.layer if weights.run is not None else (mask_layer(weights.used.architecture),)
    layers = _layers(settings.layer or of_paper, weights)

    def quality(masks: Iterable[Labels]) -> Figures:
        pairs = zip(masks, (annotated[i][1] for i in range(len(annotated))), strict=True)
        return mask_quality(pairs, boundary_tolerance=settings.boundary_tolerance)

    def made(crf: Crf | None) -> Iterable[Labels]:
        return masks_of(
            weights.backbone,
            Mapped(annotated, lambda pair: pair[0]),
            layers=layers,
            clusters=settings.clusters,
            refresh_batch_norm=settings.refresh_batch_norm,
            images_per_group=settings.images_per_group,
            max_side=settings.max_side,
            seed=settings.seed,
            crf=crf,
        )

    splits: dict[str, Split[Any]] = {settings.split: split}
    if settings.masks == "run":
        if weights.run is None or weights.cycle is None:
            raise ConfigError("masks run: only a run holds masks, from cycle 0 on; use masks=weights for other weights")
        if settings.crf:
            raise ConfigError("crf: a run's masks are refined where it was made with masks.crf; use masks=weights")
        return Measured(quality(masks_by_photograph(weights.run, weights.cycle, split.photographs)), splits)
    if settings.crf and find_spec("pydensecrf") is None:
        raise ConfigError("crf: needs the package pydensecrf2, which is not installed here; or set crf=false")
    plain = quality(made(None))
    chosen: dict[str, Any] = {"layer": layers}
    if not settings.crf:
        return Measured(plain, splits, chosen)
    crf = crf_of(own)
    refined = {f"crf_{name}": value for name, value in quality(made(crf)).values.items() if name in SCORES}
    return Measured(Figures(plain.values | refined, plain.skipped), splits, chosen | {"crf": asdict(crf)})


def _annotated(
    root: Path, settings: MaskQualitySettings
) -> tuple[Split[Any], Samples[tuple[Image.Image, list[Annotation]]]]:
    """The split, and its photographs with the regions of each annotator."""
    kind = settings.ground_truth
    if kind == "auto":
        if any((root / below).is_dir() for below in ("ground_truth", "groundTruth", "data/groundTruth")):
            kind = "bsds"
        elif list((root / "annotations").glob("instances_*.json")):
            kind = "coco"
        else:
            kind = "label-maps"
    if kind == "bsds":
        of_bsds = bsds(root, settings.split, most=settings.max_images)
        return of_bsds, of_bsds.samples
    if kind == "coco":
        of_coco = coco_objects(root, settings.split, most=settings.max_images)
        return of_coco, Mapped(of_coco.samples, lambda each: (each.photograph, [paint(each)]))
    of_maps = label_maps(root, settings.split, void=settings.void, most=settings.max_images)
    # Classes count from 0, regions from 1; void is below both.
    return of_maps, Mapped(
        of_maps.samples, lambda each: (each[0], [np.where(each[1] < 0, -1, each[1] + 1).astype(np.int32)])
    )


def _region_linear(weights: Weights, root: Path, settings: ProtocolSettings) -> Measured:
    from cyborgs.evaluation.region_linear import RegionSample, region_linear

    assert isinstance(settings, RegionLinearSettings)
    train = coco_objects(root, settings.train, most=settings.max_images)
    train = train.of(_rows(len(train.samples), settings))
    test = coco_objects(root, settings.test, most=settings.max_images)

    for number, called in test.names.items():
        if train.names.get(number, called) != called:
            raise DataError(
                f"--data {root}: category {number} is {train.names[number]!r} in {settings.train} and {called!r} in "
                f"{settings.test}: number both alike"
            )

    def samples(split: CocoSplit) -> Samples[RegionSample]:
        return Mapped(split.samples, lambda each: RegionSample(each.photograph, each.masks, each.categories))

    figures = region_linear(
        weights.backbone,
        samples(train),
        samples(test),
        names=train.names | test.names,
        layers=_layers(settings.layer, weights),
        max_side=settings.max_side,
        penalty=settings.penalty,
        iterations=settings.iterations,
    )
    return Measured(figures, {settings.train: train, settings.test: test})


def _voc07_svm(weights: Weights, root: Path, settings: ProtocolSettings) -> Measured:
    from cyborgs.evaluation.voc07_svm import voc07_svm

    assert isinstance(settings, Voc07SvmSettings)
    train, train_labels = voc(voc_root(root), settings.train, most=settings.max_images)
    rows = _rows(len(train.samples), settings)
    train, train_labels = train.of(rows), train_labels[rows]
    test, test_labels = voc(voc_root(root), settings.test, most=settings.max_images)
    figures = voc07_svm(
        weights.backbone,
        train.samples,
        train_labels,
        test.samples,
        test_labels,
        classes=CLASSES,
        resize=settings.resize,
        crop=settings.crop,
        costs=settings.costs,
        folds=settings.folds,
        seed=settings.seed,
    )
    return Measured(figures, {settings.train: train, settings.test: test})


def _cocostuff_linear(weights: Weights, root: Path, settings: ProtocolSettings) -> Measured:
    from cyborgs.evaluation.cocostuff_linear import cocostuff_linear

    assert isinstance(settings, CocostuffLinearSettings)
    layers = _layers(settings.layer or (mask_layer(weights.used.architecture),), weights)
    train = label_maps(root, settings.train, void=settings.void, most=settings.max_images)
    train = train.of(_rows(len(train.samples), settings))
    test = label_maps(root, settings.test, void=settings.void, most=settings.max_images)
    figures = cocostuff_linear(
        weights.backbone,
        train.samples,
        test.samples,
        layers=layers,
        max_side=settings.max_side,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    return Measured(figures, {settings.train: train, settings.test: test}, {"layer": layers})


def _knn(weights: Weights, root: Path, settings: ProtocolSettings) -> Measured:
    from cyborgs.evaluation.knn import knn

    assert isinstance(settings, KnnSettings)
    train, train_classes, names = image_folder(root, settings.train, most=settings.max_images)
    rows = _rows(len(train_classes), settings, train_classes)
    train, train_classes = train.of(rows), [train_classes[row] for row in rows]
    test, test_classes, _ = image_folder(root, settings.test, names, most=settings.max_images)
    figures = knn(
        weights.backbone,
        train.samples,
        train_classes,
        test.samples,
        test_classes,
        resize=settings.resize,
        crop=settings.crop,
        neighbours=settings.neighbours,
        temperature=settings.temperature,
    )
    return Measured(figures, {settings.train: train, settings.test: test})


MEASURE: dict[FrozenName, Callable[[Weights, Path, ProtocolSettings], Measured]] = {
    "mask-quality": _mask_quality,
    "region-linear": _region_linear,
    "voc07-svm": _voc07_svm,
    "cocostuff-linear": _cocostuff_linear,
    "knn": _knn,
}

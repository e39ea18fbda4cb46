"""Settings of the evaluation protocols; defaults are the paper's, or the field's habit where it has none.

Each protocol has a file under configs/evaluation/, whose part `smoke` makes it small enough for a few minutes on a CPU.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.architectures import layer_names
from schemas.errors import ConfigError
from schemas.fine_tuning import (
    CityscapesFcnSettings,
    CocoInstanceSettings,
    CocostuffFcnSettings,
    ImagenetSemiSettings,
    LvisInstanceSettings,
    VocDetectionSettings,
)
from schemas.loading import CONFIG_FOLDER, lay_over, parse_settings, read_tree
from schemas.masks import ClusterCount, LayerNames
from schemas.planned_protocols import PROTOCOL_NAMES, ProtocolName
from schemas.protocol_settings import LearningSettings, ProtocolSettings

PROTOCOL_FOLDER = CONFIG_FOLDER / "evaluation"


@dataclass(frozen=True)
class PaperFigure:
    """A number of the paper: ResNet-50, 800 epochs on COCO."""

    value: float
    where: str
    classes: int
    """Of the whole data set: a figure over fewer stands beside nothing."""


def _row(where: str, classes: int, **values: float) -> dict[str, PaperFigure]:
    return {figure: PaperFigure(value, where, classes) for figure, value in values.items()}


PAPER: dict[ProtocolName, dict[str, PaperFigure]] = {
    "voc07-svm": _row("Table 1", 20, map=86.9),
    "voc-detection": _row("Table 1", 20, box_ap=58.0, box_ap50=83.0, box_ap75=64.3),
    "coco-instance": _row(
        "Table 1", 80, box_ap=42.0, box_ap50=62.6, box_ap75=46.2, mask_ap=38.0, mask_ap50=59.7, mask_ap75=40.8
    ),
    "lvis-instance": _row(
        "Table C.2", 1203, box_ap=23.9, box_ap50=38.3, box_ap75=25.2, mask_ap=23.4, mask_ap50=36.2, mask_ap75=24.7
    ),
    "cityscapes-fcn": _row("Table C.1", 19, miou=75.9),
    "cocostuff-fcn": _row("Fig. 5a", 171, miou=33.6),
}
"""Protocol -> figure -> what the paper has. Its Fig. 5b is a plot."""
_SEMI = {
    "1percent.txt": _row("Table 1", 1000, top1=31.3, top5=59.4),
    "10percent.txt": _row("Table 1", 1000, top1=61.7, top5=84.2),
}


def paper_figures(name: ProtocolName, settings: Mapping[str, Any]) -> dict[str, PaperFigure]:
    """What the paper has for a protocol under these settings."""
    if settings.get("labels", 1.0) != 1:
        return {}
    return _SEMI.get(settings["image_list"], {}) if name == "imagenet-semi" else PAPER.get(name, {})


class MaskQualitySettings(ProtocolSettings):
    """Masks against ground-truth regions (Fig. 4)."""

    masks: Literal["weights", "run"] = "weights"
    """Make masks from the weights at a fixed K, or take those that the run holds for these photographs."""
    ground_truth: Literal["auto", "coco", "label-maps", "bsds"] = "auto"
    """Layout of the data; auto: by the folders that are there."""
    split: str = "val2017"
    """Which part of the data: `val2017` of COCO and COCO-Stuff, `val` of BSDS, `validation` of ADE20K."""
    void: Annotated[int, Field(ge=0, le=65535)] | None = 255
    """Value of unlabelled pixels in label maps (255 of COCO-Stuff, 0 of ADE20K); null: none."""
    layer: LayerNames | None = None
    """Layer that is clustered; left out: the run's own, layer2.2 or layer2.1 for other weights."""
    clusters: ClusterCount = 16
    """K of each group of photographs."""
    images_per_group: Annotated[int, Field(ge=1, le=1024)] = 16
    """Photographs that are clustered together."""
    refresh_batch_norm: Annotated[int, Field(ge=0)] = 0
    """Groups of the measured photographs whose batch-norm statistics stand in for those in the weights; 0: none."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Longer photographs are brought down to this side in pixels."""
    crf: bool = False
    """Measure masks refined by a dense CRF too, as crf_best_iou and so on (Fig. 4); needs pydensecrf2."""
    boundary_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.0075
    """How far a boundary may lie from the true one, as a share of the photograph's diagonal (BSDS: 0.0075)."""


class RegionLinearSettings(LearningSettings):
    """Linear classification of ground-truth regions' pooled features (COCO json)."""

    train: str = "train2017"
    """Split that is learnt from: annotations/instances_<split>.json beside <split>/."""
    test: str = "val2017"
    """Split that is measured."""
    layer: LayerNames = ("layer4",)
    """Layers whose features are pooled; several are brought to the first one's grid and concatenated."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Longer photographs are brought down to this side in pixels."""
    penalty: Annotated[float, Field(gt=0)] = 1.0
    """C of scikit-learn's logistic regression on standardised features: smaller is stronger."""
    iterations: Annotated[int, Field(ge=1)] = 1000
    """Most iterations of its solver."""


class Voc07SvmSettings(LearningSettings):
    """Linear SVMs on frozen features (Table 1, appendix B)."""

    train: str = "trainval"
    """ImageSets/Main/<split>.txt that is learnt from."""
    test: str = "test"
    """ImageSets/Main/<split>.txt that is measured."""
    resize: Annotated[int, Field(ge=32)] = 256
    """Shorter side in pixels before the central crop."""
    crop: Annotated[int, Field(ge=32)] = 224
    """Side of the central crop in pixels."""
    costs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.01, 0.1, 1.0, 10.0)
    """C to choose from by cross-validation, per class."""
    folds: Annotated[int, Field(ge=2)] = 3
    """Parts of the cross-validation."""


class CocostuffLinearSettings(LearningSettings):
    """One 1x1 convolution on a frozen feature map (Fig. 5b, blue)."""

    train: str = "train2017"
    """Split that is learnt from: images/<split> and annotations/<split>, or imageLists/<split>.txt."""
    test: str = "val2017"
    """Split that is measured."""
    void: Annotated[int, Field(ge=0, le=65535)] | None = 255
    """Value of unlabelled pixels; null: none."""
    layer: LayerNames | None = None
    """Frozen layer; left out: layer2.2 as in the paper, layer2.1 where the network has no such block."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Longer photographs are brought down to this side in pixels; predictions are compared at full size."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """Passes over the photographs that are learnt from."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    """Peak learning rate of AdamW, falling by half a cosine to 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0001
    """Weight decay of the convolution."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Photographs per step."""


class KnnSettings(LearningSettings):
    """Nearest neighbours on frozen features (ImageFolder)."""

    train: str = "train"
    """Folder of the photographs that are compared with, one folder a class."""
    test: str = "val"
    """Folder of the photographs that are measured."""
    resize: Annotated[int, Field(ge=32)] = 256
    """Shorter side in pixels before the central crop."""
    crop: Annotated[int, Field(ge=32)] = 224
    """Side of the central crop in pixels."""
    neighbours: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 10, 20)
    """k, each measured."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Votes weigh exp(similarity / temperature) (Wu et al. 2018)."""


SETTINGS: dict[ProtocolName, type[ProtocolSettings]] = {
    "mask-quality": MaskQualitySettings,
    "region-linear": RegionLinearSettings,
    "voc07-svm": Voc07SvmSettings,
    "cocostuff-linear": CocostuffLinearSettings,
    "knn": KnnSettings,
    "imagenet-semi": ImagenetSemiSettings,
    "voc-detection": VocDetectionSettings,
    "coco-instance": CocoInstanceSettings,
    "lvis-instance": LvisInstanceSettings,
    "cityscapes-fcn": CityscapesFcnSettings,
    "cocostuff-fcn": CocostuffFcnSettings,
}


def protocol_name(text: str) -> ProtocolName:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    for name in PROTOCOL_NAMES:
        if text == name:
            return name
    raise ConfigError(f"protocol {text!r}: choose from {', '.join(PROTOCOL_NAMES)}")


def load_protocol(name: ProtocolName, assignments: Iterable[str] = (), *, smoke: bool = False) -> ProtocolSettings:
    """Settings of a protocol from its file, its smoke part where asked for, and `a=b` assignments, in that order.

    Raises:
        ConfigError: a key is unknown or a value is out of range; one line per mistake.
    """
    tree = read_tree(PROTOCOL_FOLDER / f"{name}.yaml")
    small: dict[str, Any] = tree.pop("smoke", None) or {}
    if smoke:
        tree |= small
    lay_over(tree, assignments)
    return parse_settings(SETTINGS[name], tree, where=f"protocol {name}", hint=f"configs/evaluation/{name}.yaml")


def smoke_settings(name: ProtocolName) -> list[str]:
    """The smoke part of a protocol's file, as `a=b` assignments."""
    small: dict[str, Any] = read_tree(PROTOCOL_FOLDER / f"{name}.yaml").get("smoke") or {}
    return [f"{key}={json.dumps(value)}" for key, value in small.items()]


def mask_layer(architecture: str) -> str:
    """The paper's res2.b2 in this network: `layer2.2`, or `layer2.1` where layer2 has two blocks."""
    return "layer2.2" if "layer2.2" in layer_names(architecture) else "layer2.1"

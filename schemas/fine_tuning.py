"""Settings of the protocols that fine-tune; configs/evaluation/ has those of the recipes, each with its source."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.protocol_settings import LearningSettings
from schemas.settings import Positive, Probability, ordered

_Share = Annotated[float, Field(gt=0, lt=1)]
_Side = Annotated[int, Field(ge=32)]
_Ratio = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]


class FineTuningSettings(LearningSettings):
    """SGD over all layers; a step is a batch of all processes together."""

    steps: Annotated[int, Field(ge=1)]
    """Steps of fine-tuning, whatever share of the labels is learnt from."""
    batch_size: Annotated[int, Field(ge=1)]
    """Photographs per step, of all processes together."""
    learning_rate: Positive
    """Peak learning rate of the backbone, for this batch size."""
    head_factor: Positive = 1.0
    """Times that of everything that is new."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0001
    """Weight decay of SGD."""
    norm_weight_decay: Annotated[float, Field(ge=0)] | None = None
    """That of batch-norms; left out: as of all else."""
    lr_schedule: Literal["steps", "poly", "cosine"] = "steps"
    """How the learning rate falls."""
    milestones: tuple[_Share, ...] = ()
    """Of "steps": after which shares of the steps it falls to `decay` of itself."""
    decay: _Share = 0.1
    """Of "steps"."""
    power: Positive = 0.9
    """Of "poly": (1 - step / steps) ** power."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Of "poly": where it ends."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate grows to its peak."""
    warmup_factor: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Share of the peak that it grows from."""
    refresh_batch_norm: Annotated[int, Field(ge=0)] = 0
    """Batches over which batch-norm statistics are averaged before measuring; 0: the running averages are taken."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the networks; losses are float32."""
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of each process that read and draw photographs; left out: four more than there are cores, up to 32."""
    save_minutes: Positive = 10.0
    """Minutes between two saved states, from which the same command goes on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)}: name shares of the steps, each larger than the last")
        if self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} of {self.steps} steps: learning_rate is never reached; lower it"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}: lower it"
            )
        return self


class ImagenetSemiSettings(FineTuningSettings):
    """Fine-tuning for classification on a small list of ImageNet's photographs (Table 1)."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """Passes over the photographs that are learnt from."""
    steps: Annotated[int, Field(ge=1)] | None = None  # type: ignore[assignment]
    """Steps of fine-tuning, instead of `epochs`."""
    image_list: str | None = "1percent.txt"
    """File below DATA that names the photographs to learn from, one a line; null: all of `train`."""
    train: str = "train"
    """Folder of the photographs that are learnt from, one folder a class."""
    test: str = "val"
    """Folder of the photographs that are measured."""
    crop: _Side = 224
    """Side of the crops in pixels."""
    crop_area: Annotated[tuple[Probability, Probability], AfterValidator(ordered)] = (0.08, 1.0)
    """Share of a photograph's area that a training crop covers."""
    resize: _Side = 256
    """Shorter side in pixels before the central crop that is measured."""


class DetectionSettings(FineTuningSettings):
    """Sizes of photographs, as Detectron2 has them."""

    short_sides: Annotated[tuple[_Side, ...], Field(min_length=1)]
    """Shorter sides in pixels of which one is drawn for each photograph in training; measured at the last one."""
    max_side: _Side = 1333
    """Longer photographs are brought down to this side in pixels."""
    regions: Annotated[int, Field(ge=1)] = 512
    """Regions per photograph that the head learns from, drawn from the proposals."""
    proposals: Annotated[int, Field(ge=1)] = 1000
    """Proposals per photograph that the head looks at when it is measured."""
    min_score: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Detections below this score are not counted."""
    most_detections: Annotated[int, Field(ge=1)] = 100
    """Detections per photograph that are counted, the best ones."""


class VocDetectionSettings(DetectionSettings):
    """Faster R-CNN on the backbone's stride-16 map (Table 1)."""

    train: Annotated[tuple[str, ...], Field(min_length=1)] = ("VOC2007/trainval", "VOC2012/trainval")
    """Parts that are learnt from: VOCdevkit/<year>/ImageSets/Main/<split>.txt."""
    test: Annotated[tuple[str, ...], Field(min_length=1)] = ("VOC2007/test",)
    """Parts that are measured."""


class CocoInstanceSettings(DetectionSettings):
    """Mask R-CNN on a feature pyramid (Table 1), on any data set in COCO's layout."""

    train: str = "train2017"
    """Split that is learnt from: annotations/instances_<split>.json beside <split>/."""
    test: str = "val2017"
    """Split that is measured."""
    masks: bool = True
    """Mask R-CNN; false: Faster R-CNN, for annotations that have boxes alone."""


class LvisInstanceSettings(DetectionSettings):
    """The same on LVIS v1 (Table C.2)."""

    train: str = "train"
    """Split that is learnt from: annotations/lvis_v1_<split>.json beside COCO's folders."""
    test: str = "val"
    """Split that is measured."""
    repeat_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Photographs with a class that a smaller share of them shows are seen several times (LVIS, section 5); 0: none."""


class FcnSettings(FineTuningSettings):
    """FCN-D8, as mmsegmentation has it."""

    classes: Annotated[int, Field(ge=2, le=65535)]
    """Label values are below this."""
    long_side: _Side
    """A photograph is scaled to the largest size whose sides fit within `long_side` and `short_side`."""
    short_side: _Side
    """See `long_side`."""
    ratio: _Ratio = (0.5, 2.0)
    """Between which that size is multiplied in training."""
    crop: _Side
    """Side of the training crops in pixels."""
    window: _Side | None = None
    """Side of the windows that a photograph is measured in; left out: as a whole."""
    window_stride: Annotated[int, Field(ge=1)] = 513
    """Pixels between two windows."""
    align_corners: bool = False
    """How scores are brought to full size (mmsegmentation: true with crops of 769)."""


class CityscapesFcnSettings(FcnSettings):
    """FCN on Cityscapes' fine annotations (Table C.1)."""

    train: str = "train"
    """Split that is learnt from: leftImg8bit/<split> beside gtFine/<split>."""
    test: str = "val"
    """Split that is measured."""


class CocostuffFcnSettings(FcnSettings):
    """FCN, fine-tuned end to end (Fig. 5a, Fig. 5b red), on any data set of label maps."""

    train: str = "train"
    """Split that is learnt from: imageLists/<split>.txt, or images/<split> and annotations/<split>."""
    test: str = "test"
    """Split that is measured."""
    void: Annotated[int, Field(ge=0, le=65535)] | None = 255
    """Value of unlabelled pixels in .png label maps; null: none."""

"""Settings of `bootstrap-masks`: where masks come from, and how they are made."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.settings import Positive, Probability, Settings, ordered

MaskSource = Literal["bootstrap", "whole-image", "grid", "felzenszwalb", "selective-search", "files"]


def _as_range(value: Any) -> Any:
    """A single number stands for the range that holds only it."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


ClusterCount = Annotated[int, Field(ge=2, le=256)]
ClusterRange = Annotated[tuple[ClusterCount, ClusterCount], BeforeValidator(_as_range), AfterValidator(ordered)]
NotNegative = Annotated[float, Field(ge=0)]
LayerNames = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]


class MasksConfig(Settings):
    """`bootstrap-masks` (section 3.3, Algorithm 1)."""

    source: MaskSource = "bootstrap"
    """The encoder's own features, anew each cycle, or made once, before training (Fig. 5a): see docs/methods.md."""
    source_paths: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = ()
    """Of "files": a COCO json, a folder of label maps (NAME.png, or BSDS's NAME_0.png), a mask store; or several."""
    grid_cells: Annotated[int, Field(ge=2, le=16)] = 5
    """Of "grid": cells along each side (Fig. 5a: 5)."""
    felzenszwalb_scale: Positive = 1000.0
    """Of "felzenszwalb": larger for larger regions (DetCon: 1000)."""
    felzenszwalb_sigma: NotNegative = 0.8
    """Of "felzenszwalb": pixels of the blur before it."""
    felzenszwalb_min_size: Annotated[int, Field(ge=1)] = 1000
    """Of "felzenszwalb": pixels of the smallest region, after the photograph was brought to max_side (DetCon: 1000)."""
    search_boxes: Annotated[int, Field(ge=1, le=255)] = 32
    """Of "selective-search": boxes per photograph at most."""
    search_min_share: Probability = 0.01
    """Of "selective-search": share of the photograph that a box covers at least."""
    layer: LayerNames = ("layer2.2",)
    """Layer that is clustered, by the vMF loss too (Table 2d; the paper's res2.b2); several are concatenated."""
    clusters: ClusterRange = (2, 256)
    """K, drawn uniformly per group of photographs, both ends included (Table 2e)."""
    images_per_group: Annotated[int, Field(ge=1, le=1024)] = 16
    """Photographs that are clustered together."""
    max_side: Annotated[int, Field(ge=32)] = 640
    """Longer photographs are brought down to this side in pixels; keep its ratio to augmentation.crop_size."""
    iterations: Annotated[int, Field(ge=1)] = 20
    """Iterations of spherical k-means."""
    points_per_cluster: Annotated[int, Field(ge=1)] = 256
    """Cells per cluster that centroids are fitted on; every cell is labelled."""
    refresh_batch_norm: Annotated[int, Field(ge=0)] = 0
    """Groups over which batch-norm statistics are estimated anew before clustering; 0 keeps the trained ones."""
    keep_if_worse: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the last masks' effective regions or edge agreement, above 1, below which those are kept; 0: off."""
    crf: bool = False
    """Refine masks by a dense CRF (Table 2b, Fig. 4), stored at the size of photographs; needs pydensecrf2."""
    crf_concentration: Annotated[float, Field(gt=0)] = 10.0
    """kappa of the CRF's unary term, -log softmax(kappa mu^T y)."""
    crf_iterations: Annotated[int, Field(ge=1)] = 10
    """Mean-field iterations; kernels and iterations as in the code of Krähenbühl & Koltun 2011."""
    crf_appearance: tuple[NotNegative, Positive, Positive] = (10.0, 60.0, 20.0)
    """Weight, pixels and grey levels of the CRF's kernel over position and colour."""
    crf_smoothness: tuple[NotNegative, Positive] = (3.0, 3.0)
    """Weight and pixels of the CRF's kernel over position alone."""
    rows_per_shard: Annotated[int, Field(ge=16)] = 512
    """Photographs per file of the mask store, a multiple of 16; bootstrapping resumes at this grain."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rows_per_shard % 16:
            raise ValueError(f"rows_per_shard {self.rows_per_shard} is not a multiple of 16")
        if self.rows_per_shard % self.images_per_group:
            raise ValueError(
                f"rows_per_shard {self.rows_per_shard} is not a multiple of images_per_group {self.images_per_group}: "
                "a group must not be split over two files"
            )
        if (self.source == "files") != bool(self.source_paths):
            raise ValueError(
                f"source {self.source} and source_paths {list(self.source_paths)}: source files needs a path at least, "
                "no other source takes one"
            )
        if self.source != "bootstrap" and self.crf:
            raise ValueError(f"source {self.source}: a CRF refines bootstrapped masks alone; set crf=false")
        if self.source != "bootstrap" and self.keep_if_worse:
            raise ValueError(
                f"source {self.source}: such masks are made once, keep_if_worse {self.keep_if_worse:g} compares new "
                "masks with the last ones; set keep_if_worse=0"
            )
        return self

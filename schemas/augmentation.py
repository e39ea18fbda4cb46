"""Settings of the two augmentation pipelines."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.settings import Positive, Probability, Settings, ordered

PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]


class AugmentationConfig(Settings):
    """BYOL's two pipelines; a pair gives view 1 and view 2."""

    crop_size: Annotated[int, Field(ge=32, le=1024)] = 224
    """Side of a crop in pixels; a multiple of network.region_grid."""
    crop_area: Annotated[tuple[Probability, Probability], AfterValidator(ordered)] = (0.08, 1.0)
    """Share of the photograph's area that a crop covers, drawn uniformly."""
    crop_ratio: PositiveRange = (3 / 4, 4 / 3)
    """Width by height of a crop, drawn log-uniformly."""
    flip_probability: Probability = 0.5
    """Chance of a horizontal flip."""
    jitter_probability: Probability = 0.8
    """Chance of colour jitter."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Brightness factor is drawn from 1 - x to 1 + x."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Contrast factor is drawn from 1 - x to 1 + x."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Saturation factor is drawn from 1 - x to 1 + x."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift is drawn from -x to x, in turns of the colour circle."""
    grey_probability: Probability = 0.2
    """Chance of turning grey."""
    blur_probability: tuple[Probability, Probability] = (1.0, 0.1)
    """Chance of Gaussian blur in view 1 and view 2."""
    blur_kernel: Annotated[int, Field(ge=1, le=101)] = 23
    """Side of the blur kernel in pixels, odd; choose it with the crop: 23 for 224 px, 9 for 96 px."""
    blur_sigma: PositiveRange = (0.1, 2.0)
    """Standard deviation of the blur in pixels; choose it with the crop: to 2 for 224 px, 0.9 for 96 px."""
    solarize_probability: tuple[Probability, Probability] = (0.0, 0.2)
    """Chance of solarisation in view 1 and view 2."""
    solarize_threshold: Probability = 0.5
    """Brightness from which solarisation inverts, 0 black to 1 white."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.blur_kernel % 2 == 0:
            raise ValueError(
                f"blur_kernel {self.blur_kernel} is even: a kernel has a centre, use {self.blur_kernel + 1}"
            )
        if self.blur_kernel > self.crop_size:
            raise ValueError(f"blur_kernel {self.blur_kernel} is larger than crop_size {self.crop_size}")
        if self.crop_area[0] <= 0:
            raise ValueError(f"crop_area starts at {self.crop_area[0]}: it must start above 0")
        return self

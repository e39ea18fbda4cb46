"""The two pipelines: each transform on its own against what it should do, and the streams they come from."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from cyborgs.augmentation.blur import blur
from cyborgs.augmentation.crop import Crop
from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.augmentation.views import Augmentation, cut, draw_view
from cyborgs.random_streams import stream

BYOL = Augmentation(
    crop_size=32,
    crop_area=(0.08, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grey_probability=0.2,
    blur_probability=(1.0, 0.1),
    blur_kernel=5,
    blur_sigma=(0.1, 0.6),
    solarize_probability=(0.0, 0.2),
    solarize_threshold=0.5,
)

PLAIN = replace(
    BYOL,
    crop_area=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip_probability=0.0,
    jitter_probability=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    grey_probability=0.0,
    blur_probability=(0.0, 0.0),
    solarize_probability=(0.0, 0.0),
)
"""The photograph as it is: tests switch on what they look at."""


def _noise(seed: int = 0, side: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


def _view(photograph: Image.Image, augmentation: Augmentation, *, pipeline: int = 0, seed: int = 0) -> torch.Tensor:
    return draw_view(photograph, augmentation, pipeline=pipeline, random=stream("test", seed))[0]


def test_same_stream_same_view_another_stream_another_view() -> None:
    photograph = _noise(side=64)
    first, again = _view(photograph, BYOL), _view(photograph, BYOL)
    assert first.equal(again)
    assert not first.equal(_view(photograph, BYOL, seed=1))


def test_global_random_states_play_no_part() -> None:
    photograph = _noise(side=64)
    views = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        views.append(torch.stack([_view(photograph, BYOL, pipeline=1, seed=number) for number in range(8)]))
    assert views[0].equal(views[1])


def test_nothing_switched_on_is_the_photograph() -> None:
    photograph = _noise()
    assert _view(photograph, PLAIN).equal(to_tensor(photograph))


def test_returned_crop_is_the_one_that_was_cut() -> None:
    photograph = _noise(side=64)
    augmentation = replace(PLAIN, crop_area=(0.1, 1.0), crop_ratio=(0.5, 2.0), flip_probability=0.5)
    for seed in range(10):
        pixels, crop = draw_view(photograph, augmentation, pipeline=0, random=stream("test", seed))
        assert pixels.equal(to_tensor(cut(photograph, crop, 32)))


def test_cut_of_a_whole_number_of_pixels_by_hand() -> None:
    """A crop of the view's own size is not resampled: its pixels, mirrored where asked."""
    photograph = _noise()
    pixels = np.asarray(photograph)[3:15, 7:19]
    for flip in (False, True):
        view = np.asarray(cut(photograph, Crop(3, 7, 12, 12, flip=flip), 12))
        np.testing.assert_array_equal(view, pixels[:, ::-1] if flip else pixels)


@pytest.mark.parametrize(("kernel", "sigma"), [(23, 2.0), (23, 0.1), (9, 0.9), (5, 0.6)])
def test_blur_is_torchvisions_within_a_grey_level(kernel: int, sigma: float) -> None:
    pixels = to_tensor(_noise(side=48))
    expected = F.gaussian_blur(pixels, [kernel, kernel], [sigma, sigma])
    difference = (blur(pixels, kernel, sigma).int() - expected.int()).abs()
    assert int(difference.max()) <= 1


def test_blur_smooths_both_axes_alike() -> None:
    """A dot becomes a symmetric spot: its row is its column."""
    pixels = torch.zeros(3, 15, 15, dtype=torch.uint8)
    pixels[:, 7, 7] = 255
    blurred = blur(pixels, 9, 1.0)
    assert blurred.equal(blurred.transpose(1, 2))
    assert int(blurred[0, 7, 8]) > int(blurred[0, 8, 8]) > 0


@pytest.mark.parametrize("pipeline", [0, 1])
def test_probabilities_belong_to_their_pipeline(pipeline: int) -> None:
    """Blur only in view 1, solarisation only in view 2: the bright half is inverted, from 128 on."""
    photograph = _noise()
    pixels = to_tensor(photograph)
    augmentation = replace(PLAIN, blur_probability=(1.0, 0.0), blur_sigma=(0.6, 0.6), solarize_probability=(0.0, 1.0))
    view = _view(photograph, augmentation, pipeline=pipeline)
    expected = (blur(pixels, 5, 0.6), torch.where(pixels >= 128, 255 - pixels, pixels))[pipeline]
    assert view.equal(expected)
    assert not view.equal(pixels)


def test_solarisation_follows_its_threshold() -> None:
    augmentation = replace(PLAIN, solarize_probability=(1.0, 1.0), solarize_threshold=0.2)
    assert _view(_flat(50, 51, 200), augmentation)[:, 0, 0].tolist() == [50, 204, 55]


def test_grey_is_the_luma() -> None:
    """ITU-R 601: 0.299 R + 0.587 G + 0.114 B, in all channels."""
    photograph = _noise()
    view = _view(photograph, replace(PLAIN, grey_probability=1.0)).numpy()
    luma = np.asarray(photograph).astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(view - luma).max() <= 1


def test_probabilities_are_frequencies() -> None:
    """A colour that every transform changes; grey at 0.2 and jitter off: 1000 draws, 4 sigma."""
    augmentation = replace(PLAIN, grey_probability=0.2, crop_size=32)
    greys = [bool((view[0] == view[1]).all()) for view in _draws(_flat(200, 50, 50), augmentation, 1000)]
    assert abs(np.mean(greys) - 0.2) < 4 * (0.2 * 0.8 / 1000) ** 0.5


def _draws(photograph: Image.Image, augmentation: Augmentation, count: int = 150) -> list[torch.Tensor]:
    return [_view(photograph, augmentation, seed=seed) for seed in range(count)]


def _assert_fills(values: list[float], low: float, high: float, slack: float) -> None:
    """All within the range, and near both of its ends."""
    assert min(values) >= low - slack
    assert max(values) <= high + slack
    assert min(values) < low + 0.15 * (high - low)
    assert max(values) > high - 0.15 * (high - low)


def test_brightness_range() -> None:
    augmentation = replace(PLAIN, jitter_probability=1.0, brightness=0.4)
    values = [float(view.float().mean()) for view in _draws(_flat(100, 100, 100), augmentation)]
    _assert_fills(values, 60, 140, 1)


def test_contrast_range() -> None:
    """Halves of 80 and 120: their difference is multiplied by 0.6 to 1.4."""
    photograph = _flat(80, 80, 80)
    photograph.paste((120, 120, 120), (16, 0, 32, 32))
    augmentation = replace(PLAIN, jitter_probability=1.0, contrast=0.4)
    values = [float(view[0, 0, 31]) - float(view[0, 0, 0]) for view in _draws(photograph, augmentation)]
    _assert_fills(values, 24, 56, 2)


def test_saturation_range() -> None:
    """The distance of channels is multiplied by 0.8 to 1.2."""
    augmentation = replace(PLAIN, jitter_probability=1.0, saturation=0.2)
    values = [float(view[0, 0, 0]) - float(view[1, 0, 0]) for view in _draws(_flat(160, 60, 60), augmentation)]
    _assert_fills(values, 80, 120, 3)


def test_hue_range() -> None:
    """Red moves by at most a tenth of the colour circle, to both sides."""
    augmentation = replace(PLAIN, jitter_probability=1.0, hue=0.1)
    turns = []
    for view in _draws(_flat(200, 20, 20), augmentation):
        hue, _, _ = colorsys.rgb_to_hsv(*(view[:, 0, 0].double() / 255).tolist())
        turns.append((hue + 0.5) % 1 - 0.5)
    _assert_fills(turns, -0.1, 0.1, 0.01)


def test_normalise_by_imagenets_statistics() -> None:
    pixels = to_tensor(_noise())
    expected = (pixels.double().numpy() / 255 - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape(
        [0.229, 0.224, 0.225], (3, 1, 1)
    )
    found = normalise(torch.stack([pixels, pixels]))
    np.testing.assert_allclose(found[1].numpy(), expected, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_to_tensor_has_rows_before_columns() -> None:
    photograph = _flat(0, 0, 0)
    photograph.putpixel((5, 2), (1, 2, 3))
    assert to_tensor(photograph)[:, 2, 5].tolist() == [1, 2, 3]

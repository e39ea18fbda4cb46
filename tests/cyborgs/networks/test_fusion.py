"""Layers on a common grid (equation 5): averages down, bilinear up, channels in the order asked for."""

import numpy as np
import pytest
import torch

from cyborgs.networks.fusion import Downsample, fuse, to_grid, unit_features
from tests.cyborgs.references import Floats, fused


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _bilinear(line: Floats, cells: int) -> Floats:
    """Along the first axis, between the centres of cells; beyond the outer centres the value stays."""
    length = len(line)
    places = np.clip((np.arange(cells) + 0.5) * length / cells - 0.5, 0, length - 1)
    low = np.minimum(np.floor(places).astype(int), length - 2)
    share = (places - low)[:, None]
    return (1 - share) * line[low] + share * line[low + 1]


def _bilinear_map(image: Floats, height: int, width: int) -> Floats:
    return _bilinear(_bilinear(image, height).T, width).T


def test_area_takes_the_mean_of_the_cells_it_covers() -> None:
    features = _random(2, 3, 12, 8)
    expected = features.reshape(2, 3, 6, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(to_grid(features, 6, 4), expected)


@pytest.mark.parametrize(("source", "grid"), [((3, 3), (6, 6)), ((2, 5), (7, 9))])
def test_up_is_bilinear(source: tuple[int, int], grid: tuple[int, int]) -> None:
    features = _random(1, 2, *source)
    for downsample in ("area", "bilinear"):
        found = to_grid(features, *grid, downsample=downsample)
        for channel in (0, 1):
            expected = _bilinear_map(features[0, channel].double().numpy(), *grid)
            np.testing.assert_allclose(found[0, channel].numpy(), expected, atol=1e-6)


def test_down_can_be_bilinear() -> None:
    features = _random(1, 1, 14, 14)
    found = to_grid(features, 7, 7, downsample="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(found, _bilinear_map(features[0, 0].double().numpy(), 7, 7), atol=1e-6)


def test_the_two_ways_down_differ() -> None:
    """From 4 cells to 1: the mean of all sixteen, or of the four in the middle."""
    features = torch.zeros(1, 1, 4, 4)
    features[..., 1:3, 1:3] = 4.0
    assert float(to_grid(features, 1, 1)) == 1.0
    assert float(to_grid(features, 1, 1, downsample="bilinear")) == 4.0


def test_a_map_on_the_grid_stays_as_it_is() -> None:
    features = _random(1, 2, 5, 5)
    assert to_grid(features, 5, 5).equal(features)


def test_fuse_concatenates_in_order_with_cells_row_by_row() -> None:
    """Constant channels tell the layers apart; a ramp tells rows from columns."""
    ramp = torch.arange(6.0).reshape(1, 1, 2, 3)[..., :2]  # 0 1 / 3 4
    coarse, fine = torch.full((1, 2, 1, 1), 7.0), torch.full((1, 1, 4, 4), 9.0)
    fused = fuse([fine, ramp, coarse], 2)
    assert fused.tolist() == [[[9, 0, 7, 7], [9, 1, 7, 7], [9, 3, 7, 7], [9, 4, 7, 7]]]


def test_fuse_passes_the_downsampling_on() -> None:
    features = _random(1, 1, 12, 12)
    for downsample in ("area", "bilinear"):
        expected = to_grid(features, 3, 3, downsample=downsample)
        assert fuse([features], 3, downsample=downsample).flatten().equal(expected.flatten())


def test_fuse_computes_in_float32() -> None:
    """Half-precision maps are averaged in float32: 1/3 of a bfloat16 sum would be off by a part in 256."""
    features = _random(1, 1, 9, 9).bfloat16()
    expected = features.double().reshape(3, 3, 3, 3).mean(dim=(1, 3)).flatten()
    fused = fuse([features], 3).flatten()
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused.double(), expected, rtol=1e-6, atol=1e-6)


def test_unit_features_are_normalised_after_concatenation() -> None:
    """On the first layer's grid; one length over the channels of both layers."""
    first, second = _random(2, 3, 4, 6), 5 * _random(2, 2, 2, 3, seed=1)
    found = unit_features([first, second]).double().numpy()
    grown = np.stack([[_bilinear_map(c.double().numpy(), 4, 6) for c in image] for image in second])
    both = np.concatenate([first.double().numpy(), grown], axis=1)
    expected = (both / np.linalg.norm(both, axis=1, keepdims=True)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_zero_feature_stays_zero() -> None:
    features = _random(1, 3, 2, 2)
    features[:, :, 0, 1] = 0
    found = unit_features([features])
    assert not found[0, 0, 1].any()
    assert found.isfinite().all()
    assert float(found[0, 1, 1].norm()) == pytest.approx(1)


@pytest.mark.parametrize("downsample", ["area", "bilinear"])
@pytest.mark.parametrize(("sides", "grid"), [((28, 14, 7), 7), ((12, 6, 3), 6), ((10, 5), 4)])
def test_equation_5(sides: tuple[int, ...], grid: int, downsample: Downsample) -> None:
    """At 224 pixels, at 96 where the last layer grows, and with a grid that does not divide the maps."""
    layers = [_random(2, 3 + number, side, side, seed=number) for number, side in enumerate(sides)]
    expected = fused([layer.double().numpy() for layer in layers], grid, downsample=downsample)
    np.testing.assert_allclose(fuse(layers, grid, downsample=downsample).numpy(), expected, atol=1e-5)

"""The blur in whole numbers against the sum over a kernel, in floating point."""

import numpy as np
import pytest
import torch

from cyborgs.augmentation.blur import blur


@pytest.mark.parametrize(("kernel", "sigma"), [(23, 2.0), (23, 1.3), (23, 0.7), (9, 0.9), (5, 0.3), (23, 0.1)])
def test_it_is_the_weighted_sum(kernel: int, sigma: float) -> None:
    """Of noise, which shows the most of a rounded weight."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 31, 31), dtype=np.uint8)
    bell = np.exp(-0.5 * (np.arange(kernel) - kernel // 2) ** 2 / sigma**2)
    bell /= bell.sum()
    half = kernel // 2
    padded = np.pad(pixels, ((0, 0), (half, half), (half, half)), mode="reflect").astype(float)
    expected = np.zeros(pixels.shape)
    for i in range(kernel):
        for j in range(kernel):
            expected += bell[i] * bell[j] * padded[:, i : i + 31, j : j + 31]
    difference = np.abs(blur(torch.from_numpy(pixels), kernel, sigma).numpy() - expected)
    assert difference.max() < 2.5
    assert difference.mean() < 0.4


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_an_even_image_stays_as_it_is(level: int) -> None:
    """The weights add up, and white does not overflow."""
    pixels = torch.full((3, 12, 12), level, dtype=torch.uint8)
    for sigma in (0.1, 0.5, 1.0, 1.7, 2.0):
        assert blur(pixels, 11, sigma).equal(pixels)


def test_white_beside_black_does_not_overflow() -> None:
    pixels = torch.zeros(3, 12, 12, dtype=torch.uint8)
    pixels[:, :, 6:] = 255
    rows = blur(pixels, 11, 1.0)[0, 5].tolist()
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, 255)

"""Region vectors are means over a region's cells (equation 1)."""

import numpy as np
import torch

from cyborgs.regions.pooling import pool_regions
from tests.cyborgs.references import region_means


def test_mean_over_the_cells_of_each_region() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 20, 5))
    labels = random.integers(0, 6, size=(3, 20))
    regions = np.stack([random.choice(own, 7) for own in labels])
    found = pool_regions(torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(regions))
    np.testing.assert_allclose(found.numpy(), region_means(features, labels, regions), atol=1e-12)


def test_by_hand() -> None:
    features = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]])
    labels = torch.tensor([[4, 4, 255]], dtype=torch.uint8)
    pooled = pool_regions(features, labels, torch.tensor([[255, 4]]))
    assert pooled.tolist() == [[[6.0, 60.0], [1.5, 15.0]]]


def test_gradient_is_spread_over_the_region() -> None:
    """d(mean)/d(cell) is 1 / cells inside of the region and 0 outside."""
    features = torch.zeros(1, 4, 1, requires_grad=True)
    pooled = pool_regions(features, torch.tensor([[0, 1, 1, 1]]), torch.tensor([[1]]))
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]))


def test_order_of_cells_does_not_matter() -> None:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(2, 9, 3, generator=random, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 9), generator=random)
    labels[:, :2] = torch.tensor([0, 1])
    regions = torch.tensor([[0, 1], [1, 0]])
    shuffled = torch.randperm(9, generator=random)
    torch.testing.assert_close(
        pool_regions(features, labels, regions), pool_regions(features[:, shuffled], labels[:, shuffled], regions)
    )

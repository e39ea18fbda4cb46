"""Region vectors of whole photographs lie where their labels do."""

import numpy as np
import pytest
import torch
from PIL import Image

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.evaluation.projections import photograph_projections
from cyborgs.networks.fusion import fuse
from cyborgs.networks.siamese import RegionEncoder


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    return RegionEncoder(
        architecture="resnet18",
        contrast_layers=("layer2", "layer3"),
        region_grid=4,
        downsample="area",
        hidden=8,
        dim=6,
        seed=0,
    ).eval()


def test_vectors_are_means_over_a_photographs_labels(encoder: RegionEncoder) -> None:
    """A photograph of the crop's size with its left half one label and its right half another; one of one label."""
    random = np.random.default_rng(0)
    photographs = [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    labels = [np.array([[9, 200]], np.uint8), np.array([[5]], np.uint8)]
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    vectors, projections = photograph_projections(
        encoder, photographs, labels, crop_size=64, regions=12, random=np.random.default_rng(0)
    )
    with torch.no_grad():
        maps = encoder.backbone(normalise(torch.stack([to_tensor(each) for each in photographs])), ("layer2", "layer3"))
        cells = fuse(list(maps.values()), 4).unflatten(1, (4, 4))
    halves = torch.stack([cells[0, :, :2].mean(dim=(0, 1)), cells[0, :, 2:].mean(dim=(0, 1))])
    whole = cells[1].mean(dim=(0, 1))

    near = torch.cdist(vectors[:12], halves)
    assert near.min(dim=1).values.max() < 1e-3 * float(halves.norm())
    assert set(near.argmin(dim=1).tolist()) == {0, 1}, "both labels were sampled"
    torch.testing.assert_close(vectors[12:], whole.expand(12, -1), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(projections, encoder.projector(vectors), rtol=1e-3, atol=1e-5)
    assert all(tensor.equal(before[name]) for name, tensor in encoder.state_dict().items())

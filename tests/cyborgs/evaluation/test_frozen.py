"""Samples read ahead, the view that features come from, and the proof that a backbone stayed what it was."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.evaluation.frozen import BackboneChangedError, central_crop, frozen, read_ahead, square_features
from cyborgs.networks.backbone import Backbone
from tests.conftest import draw_scene


def test_frozen_leaves_everything_as_it_was() -> None:
    backbone = Backbone("resnet18", seed=0).train()
    with frozen(backbone):
        assert not backbone.training
        assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["layer3.1.conv2.weight", "layer1.0.bn1.running_mean", "bn1.num_batches_tracked"])
def test_frozen_notices_any_change(name: str) -> None:
    backbone = Backbone("resnet18", seed=0)
    with pytest.raises(BackboneChangedError, match=name), frozen(backbone):
        backbone.state_dict()[name].add_(1)


def test_training_statistics_would_be_noticed() -> None:
    """The most likely slip: a forward pass in training mode moves batch-norm's averages."""
    backbone = Backbone("resnet18", seed=0)
    with pytest.raises(BackboneChangedError, match="running_mean"), frozen(backbone):
        backbone.train()
        backbone(torch.randn(2, 3, 32, 32), ["layer1"])


def test_samples_come_in_the_order_that_is_asked_for() -> None:
    values = list(range(100))
    order = np.random.default_rng(0).permutation(100).tolist()
    assert list(read_ahead(values)) == values
    assert list(read_ahead(values, order)) == order


def test_a_sample_that_cannot_be_read_ends_it() -> None:
    class Broken:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, position: int) -> int:
            if position == 1:
                raise ValueError("no such photograph")
            return position

    with pytest.raises(ValueError, match="no such photograph"):
        list(read_ahead(Broken()))


def test_the_central_crop_keeps_the_middle_and_the_shape() -> None:
    image = Image.new("RGB", (200, 100), "red")
    image.paste("blue", (50, 0, 150, 100))
    cropped = np.asarray(central_crop(image, resize=50, crop=50))
    assert cropped.shape == (50, 50, 3)
    assert (cropped[:, 2:-2] == (0, 0, 255)).all()


def test_features_are_unit_vectors_of_quarters() -> None:
    backbone = Backbone("resnet18", seed=0).eval()
    photographs = [draw_scene(np.random.default_rng(seed), 90, 70) for seed in range(3)]
    vectors = square_features(backbone, photographs, resize=64, crop=64, pool=2, batch=2)
    assert vectors.shape == (3, 4 * 512)
    images = normalise(torch.stack([to_tensor(central_crop(each, resize=64, crop=64)) for each in photographs]))
    with torch.no_grad():
        expected = F.normalize(backbone(images, ["layer4"])["layer4"].flatten(1), dim=1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)

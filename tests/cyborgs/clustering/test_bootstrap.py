"""Bootstrapped masks: K, the independence of groups, sizes, and refreshed batch-norm statistics."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.clustering import bootstrap
from cyborgs.clustering.bootstrap import (
    GroupMasks,
    bootstrap_group,
    fit_within,
    fitted_size,
    photograph_features,
    with_fresh_statistics,
)
from cyborgs.networks.backbone import Backbone
from cyborgs.random_streams import stream
from tests.cyborgs.references import algorithm_1

LAYER = "layer2.1"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("resnet18", seed=0).eval()


def _photographs(seed: int, *sizes: tuple[int, int]) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [
        Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)).resize((width, height))
        for width, height in sizes
    ]


def _masks(
    backbone: Backbone,
    photographs: Sequence[Image.Image],
    *,
    clusters: tuple[int, int] = (2, 6),
    seed: int = 0,
    cycle: int = 0,
    group: int = 0,
) -> GroupMasks:
    return bootstrap_group(
        backbone,
        photographs,
        layers=[LAYER],
        clusters=clusters,
        iterations=5,
        points_per_cluster=256,
        seed=seed,
        cycle=cycle,
        group=group,
        bfloat16=False,
    )


def _same(first: GroupMasks, second: GroupMasks) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first.labels, second.labels, strict=True))


def test_number_of_clusters_is_uniform_with_both_ends(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """U{2..5} over 400 groups: each count within 4.5 sigma (8.7) of 100. Features are made up: only K is looked at."""
    directions = torch.nn.functional.normalize(torch.randn(6, 6, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    monkeypatch.setattr(bootstrap, "photograph_features", lambda *_, **__: [directions])
    drawn = [_masks(backbone, [], clusters=(2, 5), group=group).clusters for group in range(400)]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [2, 3, 4, 5]
    assert np.abs(counts - 100).max() < 39


def test_the_papers_range_reaches_both_of_its_ends(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """K ~ U{2..256}: over 3000 groups both ends come up (missing one has a chance of 1e-5 each), none beyond."""
    asked = []

    def remember(points: torch.Tensor, clusters: int, **_: object) -> torch.Tensor:
        asked.append(clusters)
        return points[:1]

    monkeypatch.setattr(bootstrap, "photograph_features", lambda *_, **__: [torch.ones(20, 20, 1)])
    monkeypatch.setattr(bootstrap, "spherical_kmeans", remember)
    for group in range(3000):
        _masks(backbone, [], clusters=(2, 256), group=group)
    assert min(asked) == 2
    assert max(asked) == 256
    assert abs(np.mean(asked) - 129) < 6


def test_labels_are_the_nearest_centroids_of_a_clustering_into_k(backbone: Backbone) -> None:
    """Each label's features have a mean direction; no cell is nearer to another label's (a k-means fixed point)."""
    photographs = _photographs(0, (64, 48), (48, 64))
    found = bootstrap_group(
        backbone,
        photographs,
        layers=[LAYER],
        clusters=(4, 4),
        iterations=100,
        points_per_cluster=256,
        seed=0,
        cycle=0,
        group=0,
        bfloat16=False,
    )
    maps = photograph_features(backbone, photographs, [LAYER], bfloat16=False)
    features = torch.cat([each.flatten(0, 1) for each in maps]).double().numpy()
    labels = np.concatenate([each.ravel() for each in found.labels])
    assert found.clusters == 4
    assert set(labels.tolist()) == {0, 1, 2, 3}
    centroids = np.stack([features[labels == k].sum(axis=0) for k in range(4)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    cosines = features @ centroids.T
    own = cosines[np.arange(len(labels)), labels]
    assert (own >= cosines.max(axis=1) - 1e-4).all()


def test_labels_lie_on_the_feature_grid_of_each_photograph(backbone: Backbone) -> None:
    """Stride 8 of layer2, rounded up, one byte a cell; photographs keep their order whatever their sizes."""
    found = _masks(backbone, _photographs(0, (64, 40), (41, 64), (64, 40)))
    assert [labels.shape for labels in found.labels] == [(5, 8), (8, 6), (5, 8)]
    assert {labels.dtype for labels in found.labels} == {np.dtype(np.uint8)}


def test_clusters_are_shared_by_the_group_and_capped_by_its_cells(backbone: Backbone) -> None:
    """2 x 2 cells each, three photographs: 12 cells, so K = 12 of 200, and every cell its own label."""
    found = _masks(backbone, _photographs(1, (16, 16), (16, 16), (16, 16)), clusters=(200, 200))
    assert found.clusters == 12
    assert sorted(np.concatenate([labels.ravel() for labels in found.labels]).tolist()) == list(range(12))


def test_256_clusters_fit_a_byte(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of its own for each of 256 clusters: labels 0 to 255, none wrapped around."""
    cells = torch.eye(256).reshape(16, 16, 256)
    monkeypatch.setattr(bootstrap, "photograph_features", lambda *_, **__: [cells])
    found = _masks(backbone, [], clusters=(256, 256))
    assert sorted(found.labels[0].ravel().tolist()) == list(range(256))


def test_a_groups_masks_depend_on_no_other_group(backbone: Backbone) -> None:
    photographs = _photographs(2, (64, 48), (48, 48))
    alone = _masks(backbone, photographs, group=3)
    for group in (0, 1, 2):
        _masks(backbone, _photographs(group, (64, 64)), group=group)
    torch.manual_seed(99)
    after = _masks(backbone, photographs, group=3)
    assert after.clusters == alone.clusters
    assert _same(alone, after)


@pytest.mark.parametrize("name", ["seed", "cycle", "group"])
def test_seed_cycle_and_group_each_name_a_stream(backbone: Backbone, name: str) -> None:
    photographs = _photographs(3, (64, 64))
    first = _masks(backbone, photographs, clusters=(6, 6))
    assert not _same(first, _masks(backbone, photographs, clusters=(6, 6), **{name: 1}))


def test_features_of_a_photograph_do_not_depend_on_its_company(backbone: Backbone) -> None:
    photographs = _photographs(4, (64, 48), (48, 48), (64, 48), (32, 64))
    together = photograph_features(backbone, photographs, [LAYER], bfloat16=False)
    for photograph, features in zip(photographs, together, strict=True):
        (alone,) = photograph_features(backbone, [photograph], [LAYER], bfloat16=False)
        torch.testing.assert_close(features, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.norm(dim=2), torch.ones(features.shape[:2]))


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((640, 480), (640, 480)),
        ((100, 30), (100, 30)),
        ((1280, 960), (640, 480)),
        ((960, 1280), (480, 640)),
        ((641, 641), (640, 640)),
        ((1000, 333), (640, 213)),
        ((64_000, 10), (640, 1)),
        ((10, 64_000), (1, 640)),
    ],
)
def test_longer_side_is_brought_down_to_the_limit(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fitted_size(*size, 640) == fitted


def test_fit_within_resizes_only_what_is_too_large() -> None:
    small, large = _photographs(5, (64, 40), (160, 80))
    assert fit_within(small, 80) is small
    assert fit_within(large, 80).size == (80, 40)


def test_fresh_statistics_are_the_mean_over_groups(backbone: Backbone) -> None:
    """Of the first batch-norm: mean and unbiased variance of its inputs, each averaged over the groups."""
    groups = [_photographs(seed, (64, 48), (64, 48)) for seed in (6, 7, 8)]
    fresh = with_fresh_statistics(backbone, groups, [LAYER], bfloat16=False)
    means, variances = [], []
    for group in groups:
        images = normalise(torch.stack([to_tensor(photograph) for photograph in group]))
        with torch.no_grad():
            inputs = backbone.conv1(images).double()
        values = inputs.permute(1, 0, 2, 3).flatten(1).numpy()
        means.append(values.mean(axis=1))
        variances.append(values.var(axis=1, ddof=1))
    np.testing.assert_allclose(fresh.bn1.running_mean.numpy(), np.mean(means, axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fresh.bn1.running_var.numpy(), np.mean(variances, axis=0), rtol=1e-4, atol=1e-6)


def test_fresh_statistics_forget_what_was_there(backbone: Backbone) -> None:
    """The same groups give the same statistics whatever the running averages were before."""
    groups = [_photographs(9, (48, 48), (48, 48))]
    expected = with_fresh_statistics(backbone, groups, [LAYER], bfloat16=False)
    spoiled = Backbone("resnet18", seed=0).eval()
    for module in spoiled.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.num_batches_tracked is not None
            module.running_mean.fill_(5)
            module.num_batches_tracked.fill_(3)
    assert with_fresh_statistics(spoiled, groups, [LAYER], bfloat16=False).bn1.running_mean.equal(
        expected.bn1.running_mean
    )


def test_photographs_of_one_cell_are_left_out_of_the_statistics(backbone: Backbone) -> None:
    """The last layer's map of 32 pixels is one cell, which has no variance; of 33 pixels, however narrow, it is two."""
    small, narrow = _photographs(11, (32, 32), (33, 8))
    layers = ["layer4"]
    expected = with_fresh_statistics(backbone, [[narrow]], layers, bfloat16=False).state_dict()
    found = with_fresh_statistics(backbone, [[small], [narrow]], layers, bfloat16=False).state_dict()
    assert all(found[name].equal(expected[name]) for name in expected)
    assert not expected["bn1.running_mean"].equal(backbone.bn1.running_mean)


def test_number_format_reaches_the_network(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = _photographs(12, (64, 64))
    exact, rounded = (
        photograph_features(backbone, photographs, [LAYER], bfloat16=bfloat16)[0] for bfloat16 in (False, True)
    )
    assert not exact.equal(rounded)
    assert exact.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(exact, rounded, rtol=0, atol=0.05)


def test_refreshing_leaves_the_original_untouched(backbone: Backbone) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    fresh = with_fresh_statistics(backbone, [_photographs(10, (48, 48), (48, 48))], [LAYER], bfloat16=False)
    assert all(tensor.equal(before[name]) for name, tensor in backbone.state_dict().items())
    assert not backbone.training
    assert not fresh.training
    assert all(weight.equal(before[name]) for name, weight in fresh.named_parameters()), "only statistics are refreshed"
    assert not fresh.bn1.running_mean.equal(before["bn1.running_mean"])


def test_algorithm_1(backbone: Backbone) -> None:
    """The reference from the points that the group's stream starts from; rounding may move a cell between two."""
    photographs = _photographs(13, (96, 64), (64, 64), (64, 96))
    found = _masks(backbone, photographs, clusters=(5, 5), seed=3, cycle=2, group=7)
    maps = photograph_features(backbone, photographs, [LAYER], bfloat16=False)
    features = [each.double().numpy() for each in maps]
    points = np.concatenate([each.reshape(-1, each.shape[-1]) for each in features])
    random = stream("masks", 3, 2, 7)
    assert random.integers(5, 5, endpoint=True) == 5
    chosen = random.permutation(len(points))
    starts = points[chosen][random.choice(len(points), 5, replace=False)]
    expected = algorithm_1(features, starts, iterations=5)
    same = np.concatenate([(own == other).ravel() for own, other in zip(found.labels, expected, strict=True)])
    assert same.mean() > 0.99
    assert len(np.unique(np.concatenate([each.ravel() for each in expected]))) == 5

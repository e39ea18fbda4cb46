"""Spherical k-means against Lloyd's algorithm in numpy, and what bootstrapping relies on."""

import itertools

import numpy as np
import pytest
import torch

from cyborgs.clustering.spherical_kmeans import spherical_kmeans
from tests.cyborgs import references
from tests.cyborgs.references import Floats, mean_cosine, random_units, unit


def _blobs(seed: int, *, clusters: int = 5, each: int = 30, dim: int = 8) -> tuple[Floats, Floats]:
    """Directions well apart with points close to each: points (P, D) in random order, directions (K, D)."""
    random = np.random.default_rng(seed)
    directions = np.eye(dim)[:clusters]
    points = unit(np.repeat(directions, each, axis=0) + random.normal(0, 0.05, (clusters * each, dim)))
    return points[random.permutation(len(points))], directions


def _cluster(points: Floats, clusters: int, *, seed: int = 0, **settings: int) -> Floats:
    found = spherical_kmeans(
        torch.from_numpy(points.astype(np.float32)),
        clusters,
        random=np.random.default_rng(seed),
        iterations=settings.get("iterations", 20),
        points_per_cluster=settings.get("points_per_cluster", 256),
    )
    return found.numpy().astype(np.float64)


@pytest.mark.parametrize("seed", range(8))
def test_same_as_lloyds_algorithm_from_the_same_start(seed: int) -> None:
    """On well separated data the start decides; ours is given to the reference and both end alike."""
    points, _ = _blobs(seed)
    random = np.random.default_rng(seed)
    fitted = points[random.permutation(len(points))]
    start = fitted[random.choice(len(fitted), 5, replace=False)]
    expected = references.spherical_kmeans(points, start, iterations=20)
    np.testing.assert_allclose(_cluster(points, 5, seed=seed, points_per_cluster=1000), expected, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_centroids_are_those_after_the_last_update(iterations: int) -> None:
    """Stopped long before it settles, points without structure, so that every iteration moves the centroids."""
    points = random_units(np.random.default_rng(11), 400, 6)
    random = np.random.default_rng(0)
    fitted = points[random.permutation(len(points))]
    start = fitted[random.choice(len(fitted), 6, replace=False)]
    found = _cluster(points, 6, seed=0, iterations=iterations, points_per_cluster=400)
    expected = references.spherical_kmeans(points, start, iterations=iterations)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, references.spherical_kmeans(points, start, iterations=iterations - 1), atol=1e-3)


def test_all_points_are_fitted_on_where_that_was_asked_for() -> None:
    """900 points for 2 clusters, beyond the 256 for each that faiss would keep by itself."""
    points = random_units(np.random.default_rng(12), 900, 4)
    random = np.random.default_rng(0)
    fitted = points[random.permutation(len(points))]
    start = fitted[random.choice(len(fitted), 2, replace=False)]
    found = _cluster(points, 2, iterations=3, points_per_cluster=450)
    np.testing.assert_allclose(found, references.spherical_kmeans(points, start, iterations=3), atol=1e-5)


def test_finds_the_directions() -> None:
    """Of several starts the best one recovers the five directions the points were made from."""
    points, directions = _blobs(3)
    best = max((_cluster(points, 5, seed=seed) for seed in range(10)), key=lambda c: mean_cosine(points, c))
    assert (best @ directions.T).max(axis=0).min() > 0.999


def test_centroids_are_unit_vectors_and_means_of_their_points() -> None:
    """A fixed point of the algorithm: each centroid is the direction of the sum of the points nearest to it."""
    points, _ = _blobs(4)
    centroids = _cluster(points, 5, points_per_cluster=1000, iterations=30)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    nearest = (points @ centroids.T).argmax(axis=1)
    for number, centroid in enumerate(centroids):
        np.testing.assert_allclose(unit(points[nearest == number].sum(axis=0)), centroid, atol=1e-5)


def test_iterations_never_worsen_the_objective() -> None:
    points = random_units(np.random.default_rng(5), 400, 6)
    values = [
        mean_cosine(points, _cluster(points, 6, iterations=iterations, points_per_cluster=400))
        for iterations in (1, 2, 4, 8, 20)
    ]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(values))
    assert values[-1] > values[0]


def test_close_to_the_references_objective_where_clusters_overlap() -> None:
    """Points without structure: another start, another optimum, but as good within 2 percent."""
    random = np.random.default_rng(6)
    points = random_units(random, 600, 5)
    expected = mean_cosine(points, references.spherical_kmeans(points, points[:8], iterations=20))
    assert mean_cosine(points, _cluster(points, 8, points_per_cluster=600)) == pytest.approx(expected, rel=0.02)


def test_no_more_clusters_than_points() -> None:
    """Each point is then its own centroid."""
    points = random_units(np.random.default_rng(7), 3, 4)
    centroids = _cluster(points, 10)
    assert centroids.shape == (3, 4)
    np.testing.assert_allclose((points @ centroids.T).max(axis=1), 1, atol=1e-6)


def test_as_many_clusters_as_points_keeps_every_point() -> None:
    points = random_units(np.random.default_rng(8), 12, 4)
    np.testing.assert_allclose((points @ _cluster(points, 12).T).max(axis=1), 1, atol=1e-6)


def test_all_clusters_are_used_where_points_coincide() -> None:
    """Two directions, each many times, and K = 4: empty clusters are split, and nothing becomes nan."""
    points = np.repeat(np.eye(4)[:2], 50, axis=0)
    centroids = _cluster(points, 4)
    assert np.isfinite(centroids).all()
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    assert mean_cosine(points, centroids) > 0.99


def test_same_stream_same_centroids_another_stream_others() -> None:
    points = random_units(np.random.default_rng(9), 300, 6)
    np.testing.assert_array_equal(_cluster(points, 7, seed=1), _cluster(points, 7, seed=1))
    assert not np.array_equal(_cluster(points, 7, seed=1), _cluster(points, 7, seed=2))


def test_global_random_state_plays_no_part() -> None:
    points = random_units(np.random.default_rng(10), 300, 6)
    torch.manual_seed(0)
    first = _cluster(points, 7, seed=1)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    np.testing.assert_array_equal(first, _cluster(points, 7, seed=1))
    torch.manual_seed(0)
    assert torch.random.get_rng_state().equal(state)


def test_fitted_on_a_sample() -> None:
    """With 3 points for each of 2 clusters, the centroids are sums of 6 of the 1000 points."""
    points = np.eye(1000)
    centroids = _cluster(points, 2, points_per_cluster=3)
    assert (centroids > 0).any(axis=0).sum() == 6


def test_points_are_left_as_they_were() -> None:
    points = torch.nn.functional.normalize(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    before = points.clone()
    spherical_kmeans(points, 3, random=np.random.default_rng(0), iterations=20, points_per_cluster=256)
    assert points.equal(before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_an_error(bad: float) -> None:
    points = torch.eye(5)
    points[3, 1] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        spherical_kmeans(points, 2, random=np.random.default_rng(0), iterations=20, points_per_cluster=256)


def test_no_points_is_an_error() -> None:
    with pytest.raises(ValueError, match="no points"):
        spherical_kmeans(torch.empty(0, 4), 3, random=np.random.default_rng(0), iterations=20, points_per_cluster=256)


@pytest.mark.parametrize("seed", range(5))
def test_objective_of_lloyds_algorithm_from_the_same_start(seed: int) -> None:
    """Overlapping clusters, none of them ever empty: after 20 iterations the same mean cosine."""
    points = random_units(np.random.default_rng(20 + seed), 500, 5)
    random = np.random.default_rng(seed)
    fitted = points[random.permutation(len(points))]
    start = fitted[random.choice(len(fitted), 7, replace=False)]
    expected = references.spherical_kmeans(points, start, iterations=20)
    assert len(np.unique((points @ expected.T).argmax(axis=1))) == 7
    found = _cluster(points, 7, seed=seed, points_per_cluster=1000)
    assert mean_cosine(points, found) == pytest.approx(mean_cosine(points, expected), abs=2e-4)

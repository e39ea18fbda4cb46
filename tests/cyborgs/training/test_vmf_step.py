"""One batch of the vMF loss: which network clusters, which learns, and how prototypes are fitted."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cyborgs.distributed import World
from cyborgs.losses.vmf import Clustering, clustering_consistency_loss
from cyborgs.regions.correspondence import geometric_matches
from cyborgs.training import vmf_step
from cyborgs.training.settings import VmfLoss
from cyborgs.training.vmf_step import cluster_step, vmf_loss
from tests.cyborgs.references import Floats, Integers, consistency_loss, random_units

BATCH, SIDE, DIM = 3, 4, 6

SETTINGS = VmfLoss(
    layers=("layer2",),
    clusters=(4, 4),
    concentration=10.0,
    distance="vmf",
    branches="symmetric",
    correspondence="geometric",
    iterations=5,
    points_per_cluster=256,
)

BOXES = torch.tensor(
    [
        [[0.0, 0.0, 0.6, 0.6, 0.0], [0.3, 0.2, 0.6, 0.7, 1.0]],
        [[0.1, 0.2, 0.8, 0.5, 1.0], [0.2, 0.1, 0.5, 0.5, 1.0]],
        [[0.0, 0.0, 0.3, 0.3, 0.0], [0.6, 0.6, 0.4, 0.4, 0.0]],  # no overlap
    ],
    dtype=torch.float64,
)

Views = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Result:
    loss: Tensor
    usage_entropy: Tensor


def _views(seed: int, *, learns: bool = False) -> Views:
    random = np.random.default_rng(seed)
    first, second = (
        torch.from_numpy(random_units(random, BATCH, SIDE, SIDE, DIM)).float().requires_grad_(learns) for _ in range(2)
    )
    return first, second


def _loss(
    online: Views,
    target: Views,
    settings: VmfLoss = SETTINGS,
    *,
    boxes: Tensor = BOXES,
    rows: tuple[int, ...] = (7, 3, 11),
    seed: int = 0,
    step: int = 0,
) -> Result:
    clusters = cluster_step(online, target, boxes, torch.tensor(rows), settings, seed=seed, step=step)
    return Result(vmf_loss(online, clusters, slice(None), settings), clusters.usage_entropy)


@dataclass
class GivenPrototypes:
    """Stands in for k-means: hands out prototypes of its own, and remembers what it was given."""

    prototypes: list[Floats] = field(
        default_factory=lambda: [random_units(np.random.default_rng(50 + view), 4, DIM) for view in (0, 1)]
    )
    points: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __call__(self, points: Tensor, clusters: int, **_: object) -> Tensor:
        self.points.append(points)
        self.counts.append(clusters)
        return torch.from_numpy(self.prototypes[(len(self.points) - 1) % 2]).float()


@pytest.fixture
def kmeans(monkeypatch: pytest.MonkeyPatch) -> GivenPrototypes:
    given = GivenPrototypes()
    monkeypatch.setattr(vmf_step, "spherical_kmeans", given)
    return given


def _flat(view: Tensor) -> Floats:
    return view.detach().flatten(1, 2).double().numpy()


def _nearest(view: Tensor, prototypes: Floats) -> Integers:
    return np.asarray((_flat(view) @ prototypes.T).argmax(axis=-1))


def _matches(settings: VmfLoss) -> tuple[Integers, Integers]:
    if settings.correspondence == "index":
        same = np.broadcast_to(np.arange(SIDE * SIDE), (BATCH, SIDE * SIDE))
        return same, same
    return (
        geometric_matches(BOXES[:, 0], BOXES[:, 1], SIDE, SIDE).numpy(),
        geometric_matches(BOXES[:, 1], BOXES[:, 0], SIDE, SIDE).numpy(),
    )


@pytest.mark.parametrize("distance", ["vmf", "euclidean"])
@pytest.mark.parametrize("correspondence", ["geometric", "index"])
@pytest.mark.parametrize("branches", ["symmetric", "paper"])
def test_value(kmeans: GivenPrototypes, branches: str, correspondence: str, distance: str) -> None:
    """Symmetric clusters target features of both views and learns with online features of both; the paper clusters
    and learns with online(v) and target(v')."""
    settings = replace(
        SETTINGS,
        branches=branches,  # type: ignore[arg-type]
        correspondence=correspondence,  # type: ignore[arg-type]
        distance=distance,  # type: ignore[arg-type]
        concentration=4.0,
    )
    online, target = _views(0), _views(1)
    found = float(_loss(online, target, settings).loss)
    clustered = target if branches == "symmetric" else (online[0], target[1])
    learned = online if branches == "symmetric" else (online[0], target[1])
    prototypes = kmeans.prototypes
    expected = consistency_loss(
        (_flat(learned[0]), _flat(learned[1])),
        (prototypes[0], prototypes[1]),
        (_nearest(clustered[0], prototypes[0]), _nearest(clustered[1], prototypes[1])),
        _matches(settings),
        concentration=4.0,
        distance=distance,
    )
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("branches", ["symmetric", "paper"])
def test_prototypes_are_fitted_on_the_clustered_features(kmeans: GivenPrototypes, branches: str) -> None:
    """With room for all cells, the points are all of that view's features and nothing else."""
    online, target = _views(0), _views(1)
    _loss(online, target, replace(SETTINGS, branches=branches))  # type: ignore[arg-type]
    clustered = target if branches == "symmetric" else (online[0], target[1])
    for points, features in zip(kmeans.points, clustered, strict=True):
        expected = features.flatten(0, 2)
        assert sorted(points.tolist()) == sorted(expected.tolist())


def test_symmetric_all_online_features_learn_and_no_target_does() -> None:
    online, target = _views(0, learns=True), _views(1, learns=True)
    gradients = torch.autograd.grad(_loss(online, target).loss, [*online, *target], allow_unused=True)
    for gradient in gradients[:2]:
        assert gradient is not None
        assert (gradient.flatten(0, 2).norm(dim=1) > 0).all(), "every cell has an intra term"
    assert gradients[2:] == (None, None)


def test_paper_only_the_first_view_learns() -> None:
    """Terms with y' are constants; online(v') and target(v) are not even read."""
    online, target = _views(0, learns=True), _views(1, learns=True)
    settings = replace(SETTINGS, branches="paper")
    found = _loss(online, target, settings).loss
    gradients = torch.autograd.grad(found, [*online, *target], allow_unused=True)
    assert gradients[0] is not None
    assert gradients[1:] == (None, None, None)
    unread = torch.empty(0)
    assert float(_loss((online[0], unread), (unread, target[1]), settings).loss.detach()) == float(found.detach())


@pytest.mark.parametrize("branches", ["symmetric", "paper"])
def test_no_gradient_through_prototypes(kmeans: GivenPrototypes, branches: str) -> None:
    """The gradient is that of the loss with its prototypes held."""
    settings = replace(SETTINGS, branches=branches)  # type: ignore[arg-type]
    online, target = _views(0, learns=True), _views(1)
    found = torch.autograd.grad(_loss(online, target, settings).loss, online[0])[0]
    prototypes = [torch.from_numpy(each).float() for each in kmeans.prototypes]
    clustered = target if branches == "symmetric" else (online[0], target[1])
    first, second = (
        Clustering(held, torch.from_numpy(_nearest(features, held.double().numpy())))
        for held, features in zip(prototypes, clustered, strict=True)
    )
    learned = online if branches == "symmetric" else (online[0], target[1])
    matches_1, matches_2 = (torch.from_numpy(matches) for matches in _matches(settings))
    held = clustering_consistency_loss(
        learned[0].flatten(1, 2),
        learned[1].flatten(1, 2),
        first,
        second,
        matches_1,
        matches_2,
        concentration=settings.concentration,
    )
    assert torch.allclose(found, torch.autograd.grad(held, online[0])[0], rtol=1e-4, atol=1e-7)


def test_inter_terms_follow_the_boxes(kmeans: GivenPrototypes) -> None:
    """Images that do not overlap leave the intra terms alone: less than with overlap, and finite."""
    online, target = _views(0), _views(1)
    apart = BOXES[2:].expand(BATCH, 2, 5)
    expected = consistency_loss(
        (_flat(online[0]), _flat(online[1])),
        (kmeans.prototypes[0], kmeans.prototypes[1]),
        (_nearest(target[0], kmeans.prototypes[0]), _nearest(target[1], kmeans.prototypes[1])),
        (np.full((BATCH, 16), -1), np.full((BATCH, 16), -1)),
        concentration=10.0,
    )
    found = float(_loss(online, target, boxes=apart).loss)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found < float(_loss(online, target).loss)


def test_points_of_an_image_depend_on_its_row_not_its_place(kmeans: GivenPrototypes) -> None:
    """The batch in another order, or on another process: every image gives the same points."""
    settings = replace(SETTINGS, points_per_cluster=3)  # 3 x 4 points of 3 images: 4 of 16 cells each
    target, order = _views(1), [2, 0, 1]
    _loss(target, target, settings)
    shuffled = (target[0][order], target[1][order])
    _loss(shuffled, shuffled, settings, boxes=BOXES[order], rows=(11, 7, 3))
    for view in (0, 1):
        assert len(kmeans.points[view]) == 12
        assert sorted(kmeans.points[view].tolist()) == sorted(kmeans.points[2 + view].tolist())


@pytest.mark.parametrize("name", ["seed", "step"])
def test_points_are_drawn_anew_by_seed_and_step(kmeans: GivenPrototypes, name: str) -> None:
    settings, target = replace(SETTINGS, points_per_cluster=3), _views(1)
    _loss(target, target, settings)
    _loss(target, target, settings, **{name: 1})  # type: ignore[arg-type]
    assert sorted(kmeans.points[0].tolist()) != sorted(kmeans.points[2].tolist())


def test_every_image_gives_a_share_of_the_points(kmeans: GivenPrototypes) -> None:
    """10 x 4 points over 3 images: 14 of the 16 cells of each, none of them twice."""
    target = _views(1)
    _loss(target, target, replace(SETTINGS, points_per_cluster=10))
    cells = {tuple(cell): image for image in range(BATCH) for cell in target[0][image].flatten(0, 1).tolist()}
    images = [cells[tuple(point)] for point in kmeans.points[0].tolist()]
    assert [images.count(image) for image in range(BATCH)] == [14, 14, 14]
    assert len({tuple(point) for point in kmeans.points[0].tolist()}) == 42


def test_number_of_clusters_is_drawn_by_step(kmeans: GivenPrototypes) -> None:
    """From the range, both ends included, and the same for both views of a step."""
    target = _views(1)
    for step in range(40):
        _loss(target, target, replace(SETTINGS, clusters=(3, 5)), step=step)
    assert set(kmeans.counts) == {3, 4, 5}
    assert kmeans.counts[::2] == kmeans.counts[1::2]


def test_same_step_same_value() -> None:
    online, target = _views(0), _views(1)
    values = {float(_loss(online, target, step=step).loss) for step in (4, 4, 4)}
    assert len(values) == 1
    assert float(_loss(online, target, step=5).loss) not in values


def test_usage_entropy(kmeans: GivenPrototypes) -> None:
    """1 where all prototypes are used equally often, 0 where one takes all; the mean of the views."""
    units = np.eye(DIM)[:4]
    kmeans.prototypes = [units, units]
    even = torch.from_numpy(units[np.arange(48) % 4].reshape(BATCH, SIDE, SIDE, DIM)).float()
    one = torch.from_numpy(np.broadcast_to(units[0], (BATCH, SIDE, SIDE, DIM)).copy()).float()
    assert float(_loss((even, even), (even, even)).usage_entropy) == pytest.approx(1)
    assert float(_loss((one, one), (one, one)).usage_entropy) == pytest.approx(0)
    assert float(_loss((one, even), (one, even)).usage_entropy) == pytest.approx(0.5)


def test_learning_lowers_the_loss() -> None:
    """A few steps of gradient descent on the features, back on the sphere each time."""
    online, target = _views(0), _views(1)
    values = []
    for _ in range(5):
        learned = (online[0].clone().requires_grad_(), online[1].clone().requires_grad_())
        value = _loss(learned, target).loss
        gradients = torch.autograd.grad(value, learned)
        values.append(float(value.detach()))
        moved = [
            torch.nn.functional.normalize(view - gradient, dim=-1)
            for view, gradient in zip(online, gradients, strict=True)
        ]
        online = (moved[0], moved[1])
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


@dataclass(frozen=True)
class TwoAlike(World):
    """Two processes that hold the same images."""

    size: int = 2

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor + tensor


def test_two_processes_with_the_same_images_see_the_loss_of_one(kmeans: GivenPrototypes) -> None:
    """Means over the global batch: nothing counts twice, and prototypes are fitted on what both give."""
    online, target = _views(0), _views(1)
    alone = _loss(online, target)
    clusters = cluster_step(online, target, BOXES, torch.tensor((7, 3, 11)), SETTINGS, seed=0, step=0, world=TwoAlike())
    torch.testing.assert_close(vmf_loss(online, clusters, slice(None), SETTINGS), alone.loss)
    torch.testing.assert_close(clusters.usage_entropy, alone.usage_entropy)
    assert [len(points) for points in kmeans.points[2:]] == [2 * len(points) for points in kmeans.points[:2]]


def test_points_are_shared_out_over_processes(kmeans: GivenPrototypes) -> None:
    """10 x 4 points over 3 images in each of two processes: 7 of each image."""
    target = _views(1)
    settings = replace(SETTINGS, points_per_cluster=10)
    cluster_step(target, target, BOXES, torch.tensor((7, 3, 11)), settings, seed=0, step=0, world=TwoAlike())
    assert [len(points) for points in kmeans.points] == [2 * 3 * 7] * 2


def test_mean_over_micro_batches_is_the_loss_of_the_step(kmeans: GivenPrototypes) -> None:
    """Also where one of them has no cell with a match, as the third image."""
    online, target = _views(0), _views(1)
    expected = _loss(online, target).loss
    clusters = cluster_step(online, target, BOXES, torch.tensor((7, 3, 11)), SETTINGS, seed=0, step=0, parts=3)
    parts = [slice(image, image + 1) for image in range(BATCH)]
    values = [vmf_loss((online[0][part], online[1][part]), clusters, part, SETTINGS) for part in parts]
    torch.testing.assert_close(torch.stack(values).mean(), expected)


def test_one_matched_cell_is_a_term_of_its_own(kmeans: GivenPrototypes) -> None:
    """The lower right cell of one view is the upper left one of the other, and no other cell has a match."""
    boxes = torch.tensor([[[0.0, 0.0, 0.4, 0.4, 0.0], [0.3, 0.3, 0.4, 0.4, 0.0]]] * BATCH, dtype=torch.float64)
    boxes[1:, 1, :2] = 0.6
    online, target = _views(0), _views(1)
    cells = np.full((2, BATCH, SIDE * SIDE), -1)
    cells[0, 0, SIDE * SIDE - 1], cells[1, 0, 0] = 0, SIDE * SIDE - 1
    prototypes = kmeans.prototypes
    expected = consistency_loss(
        (_flat(online[0]), _flat(online[1])),
        (prototypes[0], prototypes[1]),
        (_nearest(target[0], prototypes[0]), _nearest(target[1], prototypes[1])),
        (cells[0], cells[1]),
        concentration=10.0,
    )
    assert float(_loss(online, target, boxes=boxes).loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("used", "entropy"), [(2, 1.0), (1, 0.0)])
def test_usage_entropy_of_few_prototypes(kmeans: GivenPrototypes, used: int, entropy: float) -> None:
    """Two, used evenly, and one alone: 1 and 0, and nothing that is not a number."""
    units = np.eye(DIM)[:used]
    kmeans.prototypes = [units, units]
    view = torch.from_numpy(units[np.arange(48) % used].reshape(BATCH, SIDE, SIDE, DIM)).float()
    assert float(_loss((view, view), (view, view)).usage_entropy) == pytest.approx(entropy)

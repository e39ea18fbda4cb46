"""The clustering consistency loss: equations 3 and 4, and the sign of its pull."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from cyborgs.losses.vmf import Clustering, Distance, assign, clustering_consistency_loss, distances
from tests.cyborgs import references
from tests.cyborgs.references import Floats, Integers, random_units

KAPPA = 10.0


@dataclass(frozen=True)
class Case:
    """Two views of a batch: features (B, N, D), prototypes (K, D), assignments and matches (B, N)."""

    features: tuple[Floats, Floats]
    prototypes: tuple[Floats, Floats]
    assignments: tuple[Integers, Integers]
    matches: tuple[Integers, Integers]


def _case(seed: int = 0) -> Case:
    """The views have different numbers of prototypes, so that taking the wrong view's cannot go unseen."""
    random = np.random.default_rng(seed)
    return Case(
        (random_units(random, 3, 7, 5), random_units(random, 3, 7, 5)),
        (random_units(random, 4, 5), random_units(random, 3, 5)),
        (random.integers(0, 4, (3, 7)), random.integers(0, 3, (3, 7))),
        (random.integers(-1, 7, (3, 7)), random.integers(-1, 7, (3, 7))),
    )


def _loss(
    case: Case,
    *,
    concentration: float = KAPPA,
    distance: Distance = "vmf",
    features: list[Tensor] | None = None,
    matched: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    views = features or [torch.from_numpy(view) for view in case.features]
    clusterings = [
        Clustering(torch.from_numpy(prototypes), torch.from_numpy(assignments))
        for prototypes, assignments in zip(case.prototypes, case.assignments, strict=True)
    ]
    return clustering_consistency_loss(
        views[0],
        views[1],
        clusterings[0],
        clusterings[1],
        torch.from_numpy(case.matches[0]),
        torch.from_numpy(case.matches[1]),
        concentration=concentration,
        distance=distance,
        matched_1=matched[0],
        matched_2=matched[1],
    )


def _reference(case: Case, *, concentration: float = KAPPA, distance: str = "vmf") -> float:
    return references.consistency_loss(
        case.features,
        case.prototypes,
        case.assignments,
        case.matches,
        concentration=concentration,
        distance=distance,
    )


@pytest.mark.parametrize("distance", ["vmf", "euclidean"])
@pytest.mark.parametrize("concentration", [0.5, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_four_terms(seed: int, concentration: float, distance: Distance) -> None:
    case = _case(seed)
    found = float(_loss(case, concentration=concentration, distance=distance))
    assert found == pytest.approx(_reference(case, concentration=concentration, distance=distance), rel=1e-10)


def test_logits_have_a_positive_sign() -> None:
    """y on its own prototype, the other one opposite: -log(e^k / (e^k + e^-k)) = log(1 + e^-2k), nearly 0."""
    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    near, far = (float(distances(y, torch.tensor([c]), prototypes, concentration=2.0, distance="vmf")) for c in (0, 1))
    assert near == pytest.approx(np.log1p(np.exp(-4)), rel=1e-9)
    assert far == pytest.approx(4 + np.log1p(np.exp(-4)), rel=1e-9)


def test_euclidean_by_hand() -> None:
    """||mu - y||^2 of unit vectors is 2 - 2 cos: 0 on it, 2 at a right angle, 4 opposite."""
    y = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = distances(y, torch.tensor([0, 1, 2]), prototypes, concentration=KAPPA, distance="euclidean")
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0, 4.0]))


def test_softmax_of_euclidean_distances_is_the_same_as_vmf() -> None:
    """On the sphere -kappa/2 ||mu - y||^2 differs from kappa mu^T y by a constant, so the posteriors agree."""
    random = np.random.default_rng(0)
    y, mu = torch.from_numpy(random_units(random, 6, 4)), torch.from_numpy(random_units(random, 5, 4))
    clusters = torch.from_numpy(random.integers(0, 5, 6))
    squares = torch.stack(
        [distances(y, torch.full((6,), c), mu, concentration=KAPPA, distance="euclidean") for c in range(5)],
        dim=1,
    )
    expected = -torch.log_softmax(-KAPPA / 2 * squares, dim=1)[torch.arange(6), clusters]
    torch.testing.assert_close(distances(y, clusters, mu, concentration=KAPPA, distance="vmf"), expected)


@pytest.mark.parametrize("distance", ["vmf", "euclidean"])
def test_gradient_pulls_toward_the_assigned_prototype(distance: Distance) -> None:
    """For every cell dL/dy . mu_c < 0: a step against the gradient brings y nearer."""
    random = np.random.default_rng(1)
    mu = torch.from_numpy(random_units(random, 6, 8))
    y = torch.from_numpy(random_units(random, 40, 8)).requires_grad_()
    clusters = torch.from_numpy(random.integers(0, 6, 40))
    total = distances(y, clusters, mu, concentration=KAPPA, distance=distance).sum()
    (gradient,) = torch.autograd.grad(total, y)
    if distance == "euclidean":  # along the sphere; the radial part has no meaning there
        gradient = gradient - (gradient * y).sum(dim=1, keepdim=True) * y
    assert ((gradient * mu[clusters]).sum(dim=1) < 0).all()


def test_gradient_of_the_whole_loss() -> None:
    """Autograd against central differences of the reference."""
    case = _case(2)
    features = [torch.from_numpy(view).requires_grad_() for view in case.features]
    gradients = torch.autograd.grad(_loss(case, features=features), features)
    step, random = 1e-6, np.random.default_rng(0)
    for view in (0, 1):
        for _ in range(12):
            place = tuple(random.integers(0, case.features[view].shape))
            values = []
            for sign in (1, -1):
                moved = [each.copy() for each in case.features]
                moved[view][place] += sign * step
                values.append(_reference(Case((moved[0], moved[1]), case.prototypes, case.assignments, case.matches)))
            numeric = (values[0] - values[1]) / (2 * step)
            assert float(gradients[view][place]) == pytest.approx(numeric, rel=1e-4, abs=1e-7)


def test_inter_terms_use_the_other_views_prototypes() -> None:
    """Only matched cells of view 1 see a change of view 2's prototypes, and without matches none does."""
    case = _case(3)
    random = np.random.default_rng(9)
    changed = Case(case.features, (case.prototypes[0], random_units(random, 3, 5)), case.assignments, case.matches)

    def first_view(of: Case, matched: bool) -> Tensor:
        features = [torch.from_numpy(view).requires_grad_() for view in of.features]
        cells = np.broadcast_to(np.arange(7), (3, 7)).copy() if matched else np.full((3, 7), -1)
        with_matches = Case(of.features, of.prototypes, of.assignments, (cells, cells))
        return torch.autograd.grad(_loss(with_matches, features=features), features[0])[0]

    assert not torch.allclose(first_view(case, True), first_view(changed, True))
    assert first_view(case, False).equal(first_view(changed, False))


def test_inter_terms_use_the_cluster_of_the_matched_cell() -> None:
    """View 2's cell 1, which cell 0 of view 1 is matched with, was given prototype 1: the angle to it counts."""
    units = np.eye(3)
    case = Case(
        (np.array([[units[0], units[0]]]), np.array([[units[2], units[2]]])),
        (units, units),
        (np.array([[0, 0]]), np.array([[2, 1]])),
        (np.array([[1, -1]]), np.array([[-1, -1]])),
    )
    # Intra: 0 (y = mu_0), and in view 2 0 for cluster 2 and 2 for cluster 1, mean 1. Inter: 2 for cell 0 alone.
    assert float(_loss(case, distance="euclidean")) == pytest.approx(0 + 1 + 2)


def test_unmatched_cells_are_left_out() -> None:
    """Neither the value of the inter term nor its denominator knows of them."""
    case = _case(4)
    half = np.where(np.arange(7) < 3, np.arange(7), -1)
    matches = np.broadcast_to(half, (3, 7)).copy()
    none = np.full((3, 7), -1)

    def inter(of: Case) -> float:
        without = Case(of.features, of.prototypes, of.assignments, (none, none))
        one_way = Case(of.features, of.prototypes, of.assignments, (matches, none))
        return float(_loss(one_way) - _loss(without))

    cells = [
        references.clustering_distance(
            case.features[0][b, n],
            case.assignments[1][b, n],
            case.prototypes[1],
            concentration=KAPPA,
            distance="vmf",
        )
        for b in range(3)
        for n in range(3)
    ]
    assert inter(case) == pytest.approx(float(np.mean(cells)), rel=1e-9)


def test_no_overlap_leaves_the_intra_terms() -> None:
    """Finite, with a gradient that is finite too."""
    case = _case(5)
    none = np.full((3, 7), -1)
    apart = Case(case.features, case.prototypes, case.assignments, (none, none))
    features = [torch.from_numpy(view).requires_grad_() for view in case.features]
    value = _loss(apart, features=features)
    gradients = torch.autograd.grad(value, features)
    assert float(value.detach()) == pytest.approx(_reference(apart), rel=1e-10)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_inter_terms_divide_by_the_given_number_of_cells() -> None:
    """Twice the matched cells, half the inter terms: what processes with unequal overlaps need."""
    case = _case(6)
    none = np.full((3, 7), -1)
    intra = float(_loss(Case(case.features, case.prototypes, case.assignments, (none, none))))
    counts = [int((matches >= 0).sum()) for matches in case.matches]
    doubled = float(_loss(case, matched=(torch.tensor(2 * counts[0]), torch.tensor(2 * counts[1]))))
    assert doubled - intra == pytest.approx((float(_loss(case)) - intra) / 2, rel=1e-9)


def test_order_of_views_does_not_matter() -> None:
    case = _case(7)
    swapped = Case(case.features[::-1], case.prototypes[::-1], case.assignments[::-1], case.matches[::-1])
    torch.testing.assert_close(_loss(case), _loss(swapped))


def test_assign_picks_the_nearest_by_angle_and_by_distance() -> None:
    random = np.random.default_rng(2)
    points, prototypes = random_units(random, 4, 9, 6), random_units(random, 5, 6)
    expected = np.linalg.norm(points[:, :, None] - prototypes, axis=-1).argmin(axis=-1)
    found = assign(torch.from_numpy(points), torch.from_numpy(prototypes))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_one_step_raises_the_posterior_of_the_assigned_cluster() -> None:
    """Judged by a softmax of its own, with logits +kappa mu^T y: down the gradient, back on the sphere."""
    random = np.random.default_rng(3)
    mu, y = random_units(random, 6, 8), random_units(random, 200, 8)
    clusters = random.integers(0, 6, 200)
    learned = torch.from_numpy(y).requires_grad_()
    total = distances(learned, torch.from_numpy(clusters), torch.from_numpy(mu), concentration=KAPPA, distance="vmf")
    (gradient,) = torch.autograd.grad(total.sum(), learned)
    moved = references.unit(y - 0.01 * gradient.numpy())
    before, after = (references.log_softmax(KAPPA * cells @ mu.T)[np.arange(200), clusters] for cells in (y, moved))
    assert (after > before).all()


def test_names_of_clusters_do_not_matter() -> None:
    """Each view's prototypes in another order, their assignments renamed alike."""
    case, random = _case(8), np.random.default_rng(0)
    orders = [random.permutation(len(prototypes)) for prototypes in case.prototypes]
    names = [np.argsort(order) for order in orders]
    renamed = Case(
        case.features,
        (case.prototypes[0][orders[0]], case.prototypes[1][orders[1]]),
        (names[0][case.assignments[0]], names[1][case.assignments[1]]),
        case.matches,
    )
    torch.testing.assert_close(_loss(case), _loss(renamed))


def test_order_of_images_does_not_matter() -> None:
    """With the prototypes held."""
    case, order = _case(9), [2, 0, 1]
    features, assignments, matches = (
        (first[order], second[order]) for first, second in (case.features, case.assignments, case.matches)
    )
    shuffled = Case(features, case.prototypes, assignments, matches)  # type: ignore[arg-type]
    torch.testing.assert_close(_loss(case), _loss(shuffled))

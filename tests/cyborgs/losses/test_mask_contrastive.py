"""The mask loss against its equation, written out in loops, and against another implementation."""

from dataclasses import astuple, dataclass

import numpy as np
import pytest
import torch
from lightly.loss import DetConBLoss
from torch import Tensor

from cyborgs.losses.mask_contrastive import MaskLoss, mask_contrastive_loss, region_targets
from tests.cyborgs import references
from tests.cyborgs.references import Floats, Integers

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """Predictions, target projections and region ids of both views."""

    predictions: tuple[Floats, Floats]
    targets: tuple[Floats, Floats]
    regions: tuple[Integers, Integers]


def _case(seed: int, *, images: int = 3, regions: int = 5, dim: int = 6, ids: int = 4) -> Case:
    random = np.random.default_rng(seed)
    shape = (images, regions, dim)
    return Case(
        (random.normal(size=shape), random.normal(size=shape)),
        (random.normal(size=shape), random.normal(size=shape)),
        (random.integers(0, ids, shape[:2]), random.integers(0, ids, shape[:2])),
    )


def _tensors(pair: tuple[Floats, Floats] | tuple[Integers, Integers]) -> Pair:
    return torch.from_numpy(np.ascontiguousarray(pair[0])), torch.from_numpy(np.ascontiguousarray(pair[1]))


def _loss(case: Case, temperature: float = 0.1, *, predictions: Pair | None = None) -> MaskLoss:
    regions, targets = _tensors(case.regions), _tensors(case.targets)
    predictions = predictions or _tensors(case.predictions)
    return mask_contrastive_loss(
        *predictions,
        *regions,
        region_targets(targets[0], regions[0]),
        region_targets(targets[1], regions[1]),
        temperature=temperature,
    )


def _reference(case: Case, temperature: float = 0.1) -> references.MaskReference:
    return references.mask_loss(case.predictions, case.regions, case.targets, case.regions, temperature=temperature)


def _by_hand(first: list[list[int]], second: list[list[int]]) -> Case:
    """All vectors the same, so that every logit is the same and a loss is the logarithm of a count."""
    regions = np.array(first), np.array(second)
    ones = np.ones((*regions[0].shape, 4))
    return Case((ones, ones), (ones, ones), regions)


@pytest.mark.parametrize("ids", [1, 2, 4, 30])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_what_is_logged(seed: int, temperature: float, ids: int) -> None:
    """From one region in all of a photograph (every anchor has positives) to 30 ids (nearly none has)."""
    case = _case(seed, ids=ids)
    found = [float(value) for value in astuple(_loss(case, temperature))]
    np.testing.assert_allclose(found, astuple(_reference(case, temperature)), rtol=2e-5, atol=1e-6)


def test_gradient() -> None:
    """Autograd against central differences of the reference, in every prediction."""
    case = _case(4, images=2, regions=3, dim=3, ids=2)
    predictions = tuple(tensor.requires_grad_() for tensor in _tensors(case.predictions))
    _loss(case, 0.5, predictions=predictions).loss.backward()  # type: ignore[no-untyped-call, arg-type]
    step = 1e-5
    for view in (0, 1):
        numeric = np.empty_like(case.predictions[view])
        for place in np.ndindex(numeric.shape):
            values = []
            for sign in (1, -1):
                moved = [each.copy() for each in case.predictions]
                moved[view][place] += sign * step
                values.append(_reference(Case((moved[0], moved[1]), case.targets, case.regions), 0.5).loss)
            numeric[place] = (values[0] - values[1]) / (2 * step)
        gradient = predictions[view].grad
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("ids", [2, 5, 12])
def test_agrees_with_another_implementation_of_detcon(ids: int) -> None:
    """Value and gradient, with repeats and orphans among the anchors."""
    case = _case(7, images=4, regions=6, ids=ids)
    ours = tuple(tensor.requires_grad_() for tensor in _tensors(case.predictions))
    theirs = tuple(tensor.detach().clone().requires_grad_() for tensor in ours)
    targets, regions = _tensors(case.targets), _tensors(case.regions)
    value = _loss(case, predictions=(ours[0], ours[1])).loss
    other = DetConBLoss(temperature=0.1, gather_distributed=False)
    expected = other(*theirs, targets[0], targets[1], *regions)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    value.backward()  # type: ignore[no-untyped-call]
    expected.backward()
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, its.grad, rtol=1e-4, atol=1e-6)


def test_same_region_of_the_same_view_is_masked() -> None:
    """One image, one id in both: an anchor sees its one positive and nothing else, so the loss is log 1 = 0."""
    found = _loss(_by_hand([[3]], [[3]]))
    assert float(found.loss) == pytest.approx(0, abs=1e-6)
    assert float(found.shared_negatives) == 0


def test_other_regions_of_the_same_image_are_negatives() -> None:
    """Ids 1 and 2: the positive, the other id in the other view and the other id in the own view: log 3, twice."""
    assert float(_loss(_by_hand([[1, 2]], [[1, 2]])).loss) == pytest.approx(2 * np.log(3), rel=1e-6)


def test_same_id_of_another_image_is_a_negative() -> None:
    """Two images of one id: the positive, and the other image in both views: log 3, twice."""
    found = _loss(_by_hand([[5], [5]], [[5], [5]]))
    assert float(found.loss) == pytest.approx(2 * np.log(3), rel=1e-6)
    assert float(found.shared_negatives) == 1


def test_positives_share_the_target_mass() -> None:
    """Logits 1 and 0 of two positives: log(e + 1) - (1 + 0) / 2; two repeated anchors of weight 1/2 over R = 2."""
    ones, second = np.array([[[1.0, 0], [1, 0]]]), np.array([[[1.0, 0], [0, 1]]])
    regions = np.array([[8, 8]])
    case = Case((ones, np.zeros_like(ones)), (ones, second), (regions, regions))
    direction_1 = np.log(np.e + 1) - 0.5
    direction_2 = np.log(2)  # a zero prediction: both logits are 0
    expected = (direction_1 + direction_2) / 2
    assert float(_loss(case, 1.0).loss) == pytest.approx(expected, rel=1e-6)


def test_orphans_weigh_nothing_but_count() -> None:
    """Of two anchors a view one has a positive: the mean over both is half of its log 3."""
    found = _loss(_by_hand([[1, 2]], [[1, 7]]))
    assert float(found.loss) == pytest.approx(2 * np.log(3) / 2, rel=1e-6)
    assert float(found.orphans) == 0.5


def test_orphans_have_no_gradient() -> None:
    case = _case(3, images=1, regions=2)
    case = Case(case.predictions, case.targets, (np.array([[1, 2]]), np.array([[1, 7]])))
    predictions = tuple(tensor.requires_grad_() for tensor in _tensors(case.predictions))
    _loss(case, predictions=(predictions[0], predictions[1])).loss.backward()  # type: ignore[no-untyped-call]
    for prediction in predictions:
        assert prediction.grad is not None
        assert prediction.grad[0, 0].abs().sum() > 0
        assert not prediction.grad[0, 1].any()


def test_nothing_in_common_is_zero_with_a_zero_gradient() -> None:
    case = _case(3)
    case = Case(case.predictions, case.targets, (np.full((3, 5), 1), np.full((3, 5), 2)))
    predictions = tuple(tensor.requires_grad_() for tensor in _tensors(case.predictions))
    found = _loss(case, predictions=(predictions[0], predictions[1]))
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert float(found.loss.detach()) == 0
    assert float(found.orphans) == 1
    for prediction in predictions:
        assert prediction.grad is not None
        assert not prediction.grad.any()


def test_repeats_weigh_their_share() -> None:
    """Ids (1, 1, 2) and (1, 2, 9), all logits equal.

    View 1: an anchor of id 1 has six others less two of itself = 4 terms, weight 1/2, twice: log 4 in all; id 2 has
    6 - 1 = 5 terms: log 5. View 2: ids 1 and 2 have 5 terms; id 1 has two positives, of equal logits. 9 is an orphan.
    """
    expected = (np.log(4) + np.log(5)) / 3 + 2 * np.log(5) / 3
    assert float(_loss(_by_hand([[1, 1, 2]], [[1, 2, 9]])).loss) == pytest.approx(expected, rel=1e-6)


def test_ids_up_to_255_take_part() -> None:
    found = _loss(_by_hand([[0, 255]], [[0, 255]]))
    assert float(found.orphans) == 0
    assert float(found.loss) == pytest.approx(2 * np.log(3), rel=1e-6)


def test_lengths_do_not_matter() -> None:
    case = _case(5)
    stretched = Case(
        (7 * case.predictions[0], 0.3 * case.predictions[1]),
        (0.2 * case.targets[0], 11 * case.targets[1]),
        case.regions,
    )
    torch.testing.assert_close(_loss(case).loss, _loss(stretched).loss)


def test_order_of_images_does_not_matter() -> None:
    case, order = _case(6, images=4), [2, 0, 3, 1]
    shuffled = Case(*[(first[order], second[order]) for first, second in astuple(case)])
    for left, right in zip(astuple(_loss(case)), astuple(_loss(shuffled)), strict=True):
        torch.testing.assert_close(left, right)


def test_names_of_regions_do_not_matter() -> None:
    """Ids are names within an image: renaming them image by image leaves the loss alone."""
    case, random = _case(8, images=4), np.random.default_rng(0)
    names = [random.permutation(256)[:4] for _ in range(4)]
    renamed = tuple(np.stack([new[ids] for new, ids in zip(names, view, strict=True)]) for view in case.regions)
    torch.testing.assert_close(
        _loss(case).loss, _loss(Case(case.predictions, case.targets, (renamed[0], renamed[1]))).loss
    )


def test_views_are_treated_alike() -> None:
    case = _case(9)
    swapped = Case(*[(second, first) for first, second in astuple(case)])
    torch.testing.assert_close(_loss(case).loss, _loss(swapped).loss)


def test_mean_over_parts_of_a_batch_is_the_loss_of_the_batch() -> None:
    """Anchors of each half against the targets of both: value and gradient, as averaging over processes needs it."""
    case = _case(10, images=4)
    whole = tuple(tensor.requires_grad_() for tensor in _tensors(case.predictions))
    _loss(case, predictions=(whole[0], whole[1])).loss.backward()  # type: ignore[no-untyped-call]
    regions, projections = _tensors(case.regions), _tensors(case.targets)
    parts = tuple(tensor.detach().clone().requires_grad_() for tensor in whole)
    targets = [region_targets(projections[view], regions[view]) for view in (0, 1)]
    total = torch.zeros(())
    for first in (0, 2):
        here = slice(first, first + 2)
        part = mask_contrastive_loss(
            parts[0][here],
            parts[1][here],
            regions[0][here],
            regions[1][here],
            targets[0],
            targets[1],
            temperature=0.1,
            first_image=first,
        )
        total = total + part.loss / 2
    total.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(total.detach(), _loss(case).loss)
    for left, right in zip(parts, whole, strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-6)


def test_targets_are_unit_vectors_without_a_gradient() -> None:
    projections = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = region_targets(projections, torch.tensor([[4, 4, 9], [0, 1, 255]]), first_image=6)
    assert not targets.vectors.requires_grad
    torch.testing.assert_close(targets.vectors.norm(dim=1), torch.ones(6))
    assert targets.images.tolist() == [6, 6, 6, 7, 7, 7]
    assert targets.regions.tolist() == [4, 4, 9, 0, 1, 255]


def test_a_better_match_has_a_lower_loss() -> None:
    """Predictions equal to the positive's target are better than its opposite."""
    case = _case(11, images=2, regions=3)
    regions = np.array([[0, 1, 2], [0, 1, 2]])
    right = Case((case.targets[1], case.targets[0]), case.targets, (regions, regions))
    wrong = Case((-case.targets[1], -case.targets[0]), case.targets, (regions, regions))
    assert float(_loss(right).loss) < float(_loss(wrong).loss)


def test_every_id_up_to_255_has_its_positive() -> None:
    """One photograph of 256 regions in both views: no orphan, and 511 equal logits in each of two directions."""
    ids = [list(range(256))]
    found = _loss(_by_hand(ids, ids))
    assert float(found.orphans) == 0
    assert float(found.positives_per_anchor) == 1
    assert float(found.loss) == pytest.approx(2 * np.log(511), rel=1e-5)
    for number in (80, 81, 127, 128, 254):
        alone = _loss(_by_hand([[number, 255]], [[number, 0]]))
        assert float(alone.orphans) == 0.5

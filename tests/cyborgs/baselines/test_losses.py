"""Losses and gradients against lightly's, on the same tensors."""

from collections.abc import Callable

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.utils import select_most_similar
from torch import Tensor
from torch.nn import functional as F

from cyborgs.baselines.losses import byol_loss, matching_cells, nt_xent, queue_loss


def pair(rows: int = 12, dim: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(rows, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


def gradients(loss: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """The loss, and its gradient for each input that has one."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    value = loss(*leaves)
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach(), [leaf.grad for leaf in leaves]


def test_byols_loss_is_two_plus_twice_lightlys_and_so_is_its_gradient() -> None:
    predictions, targets = pair()
    own, own_gradients = gradients(byol_loss, predictions, targets)
    reference, gradient = gradients(lambda p, t: NegativeCosineSimilarity()(p, t.detach()), predictions, targets)
    torch.testing.assert_close(own, 2 + 2 * reference)
    assert gradient[0] is not None and own_gradients[1] is None
    torch.testing.assert_close(own_gradients[0], 2 * gradient[0])


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclrs_loss_is_lightlys(temperature: float) -> None:
    inputs = pair()
    own, own_gradients = gradients(lambda a, b: nt_xent(a, b, temperature=temperature), *inputs)
    reference, reference_gradients = gradients(NTXentLoss(temperature=temperature), *inputs)
    torch.testing.assert_close(own, reference)
    torch.testing.assert_close(own_gradients, reference_gradients)


def test_mocos_loss_is_lightlys() -> None:
    queries, keys = pair()
    bank = NTXentLoss(temperature=0.2, memory_bank_size=(32, 8))
    queue = bank.memory_bank.bank.double().clone()
    bank.memory_bank.bank = queue.clone()
    own, own_gradients = gradients(lambda q, k: queue_loss(q, k, queue, temperature=0.2), queries, keys)
    reference, gradient = gradients(lambda q, k: bank(q, k.detach()), queries, keys)
    torch.testing.assert_close(own, reference)
    torch.testing.assert_close(own_gradients[0], gradient[0])
    assert own_gradients[1] is None


def test_densecls_loss_over_cells_is_lightlys() -> None:
    generator = torch.Generator().manual_seed(5)

    def cells(channels: int) -> Tensor:
        return torch.randn(3, channels, 9, generator=generator, dtype=torch.float64)

    features, key_features, values, queries = cells(6), cells(6), cells(8), cells(8)
    bank = NTXentLoss(temperature=0.2, memory_bank_size=(32, 8))
    queue = bank.memory_bank.bank.double().clone()
    bank.memory_bank.bank = queue.clone()

    def own(queries: Tensor) -> Tensor:
        positives = matching_cells(features, key_features, values)
        rows = (each.transpose(1, 2).flatten(0, 1) for each in (queries, positives))
        return queue_loss(*rows, queue, temperature=0.2)

    def reference(queries: Tensor) -> Tensor:
        unit = [F.normalize(each, dim=1).transpose(1, 2) for each in (features, key_features)]
        positives = select_most_similar(*unit, values.transpose(1, 2))
        loss: Tensor = bank(queries.transpose(1, 2).flatten(0, 1), positives.flatten(0, 1))
        return loss

    mine, my_gradient = gradients(own, queries)  # type: ignore[arg-type]
    theirs, their_gradient = gradients(reference, queries)  # type: ignore[arg-type]
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(my_gradient, their_gradient)

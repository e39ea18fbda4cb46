"""Collapse indicators on data whose spread is known."""

import pytest
import torch
from torch import Tensor

from cyborgs.evaluation.collapse import effective_rank, projection_std


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_isotropic_vectors_have_a_spread_of_one() -> None:
    assert projection_std(_normal(4000, 32)) == pytest.approx(1, abs=0.01)


def test_constant_vectors_have_none() -> None:
    """Whatever their lengths: only directions count."""
    vectors = torch.ones(50, 8) * torch.arange(1, 51).unsqueeze(1)
    assert projection_std(vectors) == pytest.approx(0, abs=1e-7)


def test_spread_by_hand() -> None:
    """(1, 0) and (0, 1): each dimension is 1 and 0, deviation 1 / sqrt 2, times sqrt 2."""
    assert projection_std(torch.tensor([[3.0, 0.0], [0.0, 0.1]])) == pytest.approx(1)


def test_spread_falls_towards_collapse() -> None:
    centre = _normal(1, 16, seed=1)
    spreads = [projection_std(centre + scale * _normal(500, 16)) for scale in (10, 1, 0.1, 0.01)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 0.05


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_rank_of_a_subspace(rank: int) -> None:
    """Equal spread in k of 40 dimensions, turned at random and moved away from 0: k."""
    turn = torch.linalg.qr(_normal(40, 40, seed=2)).Q[:rank]
    assert effective_rank(_normal(5000, rank) @ turn + 7) == pytest.approx(rank, rel=0.02)


def test_rank_by_hand() -> None:
    """Singular values 3 and 1: exp(-(0.75 log 0.75 + 0.25 log 0.25)) = 4 / 3^0.75."""
    vectors = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(vectors) == pytest.approx(4 / 3**0.75)


def test_rank_does_not_depend_on_scale() -> None:
    vectors = _normal(100, 6)
    assert effective_rank(1e-4 * vectors) == pytest.approx(effective_rank(vectors))


def test_one_point_has_rank_one() -> None:
    assert effective_rank(torch.full((5, 4), 2.0)) == 1.0

"""A step whose batch is shared out, over processes or micro-batches, is the step of the whole batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.cyborgs.sharing import assert_alike, two_processes
from tests.cyborgs.training import whole_steps
from tests.cyborgs.training.whole_steps import take_steps

LOSSES = ("loss", "mask_loss", "vmf_loss")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """One process, the whole batch at once."""
    return take_steps()


def test_two_processes_with_half_the_batch_each(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    """The same losses and the same updates of all weights, on either process."""
    for found in two_processes(whole_steps.__file__, tmp_path):
        assert_alike(found, whole)


def test_what_is_logged_is_that_of_the_global_batch(whole: dict[str, Tensor]) -> None:
    names = {name.split(" ", 2)[2] for name in whole if name.startswith("step 1 ")}
    assert {*LOSSES, "orphans", "positives_per_anchor", "projection_std", "prototype_usage"} <= names


@pytest.mark.parametrize("accumulation", [2, 4])
def test_micro_batches(accumulation: int, whole: dict[str, Tensor]) -> None:
    """With layers that treat each photograph by itself, micro-batches change nothing."""
    assert_alike(take_steps(accumulation=accumulation), whole)

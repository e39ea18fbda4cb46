"""A step whose batch is shared out, over processes or micro-batches, is the step of the whole batch."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.cyborgs.training import whole_steps
from tests.cyborgs.training.whole_steps import take_steps

LOSSES = ("loss", "mask_loss", "vmf_loss")
ROOT = Path(whole_steps.__file__).parents[3]


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


def _assert_alike(found: dict[str, Tensor], whole: dict[str, Tensor]) -> None:
    assert found.keys() == whole.keys()
    for name, expected in whole.items():
        if name.split()[-1] in LOSSES:
            assert float(found[name]) == pytest.approx(float(expected), abs=1e-5), name
        elif name.startswith("moved "):
            size = float(expected.norm())
            assert size > 0, f"{name}: nothing moved"
            assert float((found[name] - expected).norm()) <= 1e-5 * size, name


def test_two_processes_with_half_the_batch_each(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    """The same losses and the same updates of all weights, on either process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, whole_steps.__file__, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        _assert_alike(load_file(tmp_path / f"{rank}.safetensors"), whole)


def test_what_is_logged_is_that_of_the_global_batch(whole: dict[str, Tensor]) -> None:
    names = {name.split(" ", 2)[2] for name in whole if name.startswith("step 1 ")}
    assert {*LOSSES, "orphans", "positives_per_anchor", "projection_std", "prototype_usage"} <= names


@pytest.mark.parametrize("accumulation", [2, 4])
def test_micro_batches(accumulation: int, whole: dict[str, Tensor]) -> None:
    """With layers that treat each photograph by itself, micro-batches change nothing."""
    _assert_alike(take_steps(accumulation=accumulation), whole)

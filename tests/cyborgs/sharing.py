"""What is needed to see that a step comes out alike however its batch is shared out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from cyborgs.optimization.optimizers import make_optimizer

ROOT = Path(__file__).parents[2]
LOSSES = ("loss", "mask_loss", "vmf_loss", "contrast_loss", "dense_loss")


def without_batch_norm(module: nn.Module) -> None:
    """Norms over one photograph or one region: they need no word from other processes."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(8, child.num_features))
        elif isinstance(child, nn.BatchNorm1d):
            setattr(module, name, nn.LayerNorm(child.num_features))
        else:
            without_batch_norm(child)


def lars(network: nn.Module) -> Optimizer:
    """At a rate that moves every weight by far more than rounding does."""
    return make_optimizer(
        "lars",
        [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad],
        learning_rate=1.0,
        weight_decay=1e-4,
        momentum=0.9,
        trust_coefficient=0.01,
    )


def two_processes(program: str, folder: Path) -> list[dict[str, Tensor]]:
    """Start a program twice by torchrun: what each process has left in FOLDER/<rank>.safetensors."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, program, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


def assert_alike(found: dict[str, Tensor], whole: dict[str, Tensor]) -> None:
    """The same losses, and the same updates of all weights, each of which has moved."""
    assert found.keys() == whole.keys()
    for name, expected in whole.items():
        if name.split()[-1] in LOSSES:
            assert float(found[name]) == pytest.approx(float(expected), abs=1e-5), name
        elif name.startswith("moved "):
            size = float(expected.norm())
            assert size > 0, f"{name}: nothing moved"
            assert float((found[name] - expected).norm()) <= 1e-5 * size, name

"""Settings of a run that change how its steps are computed."""

from pathlib import Path

import pytest
import torch

from cyborgs.training.pretraining import Pretraining
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.loading import load_config
from schemas.plan import plan
from stages.build import build_network, build_pretraining, joins_vmf
from tests.cyborgs.references import algorithm_3
from tests.cyborgs.training.whole_steps import make_batch


def _pretraining(tiny_config: Path, *settings: str) -> Pretraining:
    config = load_config(str(tiny_config), settings)
    return build_pretraining(
        config, build_network(config), schedule_epochs=6, steps_per_epoch=4, device=torch.device("cpu")
    )


@pytest.mark.slow
def test_compiled_backbones_compute_the_same(tiny_config: Path) -> None:
    """The same loss up to rounding, and the same names: a checkpoint goes from one to the other."""
    plain, compiled = _pretraining(tiny_config), _pretraining(tiny_config, "numerics.compile=true")
    batch = make_batch(0)
    expected = float(plain.warm_up_step(batch)["loss"])
    assert float(compiled.warm_up_step(batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    assert compiled.tensors().keys() == plain.tensors().keys()
    plain.load(compiled.tensors(), step=compiled.step)


def test_compiling_needs_a_compiler(tmp_path: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"numerics\.compile.*compiler"):
        _pretraining(tiny_config, "numerics.compile=true")


def test_micro_batches_are_taken(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting reaches the step: a batch of 32 in four parts goes through each network eight views a pass."""
    pretraining = _pretraining(tiny_config, "numerics.accumulation=4")
    seen: list[int] = []
    pretraining.network.online.backbone.conv1.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    pretraining.warm_up_step(make_batch(0))
    assert seen == [8] * 8, "four parts of two views"


@pytest.mark.parametrize(("warmup", "every", "joins"), [(5, 100, 5), (0, 4, 3), (3, 0, 1), (2, 7, 0), (4, 4, 4)])
def test_each_epoch_does_what_algorithm_3_says(warmup: int, every: int, joins: int) -> None:
    """The plan's segments, and the epochs in which the vMF loss joins in, epoch by epoch."""
    config = RunConfig.model_validate(
        {
            "schedule": {"epochs": 120, "warmup_epochs": warmup, "bootstrap_every_epochs": every},
            "train": {"vmf_every_epochs": joins},
        }
    )
    found: list[tuple[str, ...]] = [("vmf",)] * warmup
    bootstraps = {step.first_epoch for step in plan(config) if step.stage == "bootstrap-masks"}
    for step in plan(config):
        if step.stage == "train":
            for epoch in range(step.first_epoch, step.last_epoch):
                before = ("bootstrap",) if epoch in bootstraps else ()
                found.append((*before, "mask", *(("vmf",) if joins_vmf(config, epoch) else ())))
    assert found == algorithm_3(epochs=120, warmup=warmup, every=every, joins=joins)


def test_a_vmf_loss_of_weight_zero_is_not_computed() -> None:
    config = RunConfig.model_validate({"train": {"vmf_weight": 0}})
    assert not any(joins_vmf(config, epoch) for epoch in range(20))

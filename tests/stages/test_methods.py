"""Other methods through the same stages: they train, stop and go on, and are measured."""

import json
from pathlib import Path
from typing import get_args

import pytest

from schemas.config import Method
from schemas.errors import ConfigError
from schemas.loading import load_config
from schemas.plan import find_step, plan
from stages.weights import load_weights
from storage.artifacts import standing
from storage.run import open_run
from tests.pipeline import prepare, run_all

METHODS = [method for method in get_args(Method) if method != "cyborgs"]
SETTINGS = ("schedule.epochs=2", "schedule.warmup_epochs=0", "schedule.bootstrap_every_epochs=0", "train.queue=32")


@pytest.mark.parametrize("method", METHODS)
def test_a_run_needs_no_masks_and_is_measured(
    method: str, tmp_path: Path, tiny_config: Path, photographs: Path
) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, *SETTINGS, f"train.method={method}")
    run_all(url)
    run = open_run(str(url))
    assert [step.stage for step in plan(run.config)] == ["index-images", "warm-up", "train", "evaluate"]
    metrics = json.loads((url / str(standing(run, "evaluate", 0).folder) / "metrics.json").read_text())
    assert 0 < metrics["projection_std"] <= 1.5
    used = load_weights(str(url), architecture="resnet18", seed=0).used
    assert (used.architecture, used.used) == ("resnet18", 120)
    start = load_weights("random", architecture="resnet18", seed=0).used
    assert used.digest != start.digest
    if method == "simclr":
        with pytest.raises(ConfigError, match="no running average"):
            load_weights(str(url), architecture="resnet18", seed=0, encoder="target")
    else:
        assert load_weights(str(url), architecture="resnet18", seed=0, encoder="target").used.digest != used.digest


def test_what_a_method_cannot_do_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"schedule.warmup_epochs 5: byol has no warm-up of its own: set it to 0"):
        load_config("coco", ["train.method=byol"])
    with pytest.raises(ConfigError, match="simclr contrasts a batch with itself"):
        load_config("coco", ["train.method=simclr", "schedule.warmup_epochs=0", "numerics.accumulation=2"])
    config = load_config("coco", ["train.method=moco", "schedule.warmup_epochs=0"])
    with pytest.raises(ConfigError, match="moco needs no masks"):
        find_step(config, "bootstrap-masks", 0)

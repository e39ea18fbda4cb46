"""`configs/small.yaml` on real photographs: it learns, stays spread out, and masks change from cycle to cycle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import standing
from storage.run import open_run

SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
SHORTER = ("schedule.epochs=12", "schedule.bootstrap_every_epochs=5")
"""Cycles of three, five and two epochs instead of six, eight and eight; the last is too short to look at."""


@pytest.mark.slow
@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no photographs to train on")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("settings", "cycles"),
    [(SHORTER, (0, 1)), pytest.param((), (0, 1, 2), marks=pytest.mark.many)],
    ids=["shorter", "as it is"],
)
def test_small_learns_and_does_not_collapse(tmp_path: Path, settings: tuple[str, ...], cycles: tuple[int, ...]) -> None:
    assert SAMPLES is not None
    command = [
        str(Path(sys.executable).with_name("cyborgs")), "run", "small", "--data",
        f"{SAMPLES}/coco-mini/train2017", f"{SAMPLES}/bsds500/images", "--run", str(tmp_path / "small"),
        *(["--set", *settings] if settings else []),
    ]  # fmt: skip
    first = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert first.returncode == 0
    assert first.stdout.strip().endswith(f"{tmp_path}/small/{layout.REPORT}")

    run = open_run(str(tmp_path / "small"))
    assert run.record.photographs == 380
    for cycle in cycles:
        found = standing(run, "train", cycle)
        assert found.key is not None
        log = read_metrics(run, found.step, found.key)
        losses = [line["mask_loss"] for line in log]
        quarter = len(losses) // 4
        assert np.mean(losses[-quarter:]) < np.mean(losses[:quarter]), f"cycle {cycle}"
        assert min(line["projection_std"] for line in log) > 0.3, f"cycle {cycle}"
        metrics = json.loads(run.store.read(f"{standing(run, 'evaluate', cycle).folder}/{layout.METRICS}"))
        assert metrics["projection_std"] > 0.3

    started = time.monotonic()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 15
    assert "nothing to do" in again.stdout

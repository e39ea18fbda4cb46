"""A fine-tuning as a process: killed without a warning, told to stop, shared by two processes under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages.attempt import partial_file
from storage.checkpoints import decode_tensors
from tests.convert_coco import to_label_maps

SETTINGS = [
    "architecture=resnet18", "threads=1", "train=train2017", "test=val2017", "classes=10", "long_side=96",
    "short_side=64", "crop=64", "batch_size=4", "steps=8", "save_minutes=0.00001",
]  # fmt: skip


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, coco: Path) -> Path:
    """Label maps of drawn scenes."""
    return to_label_maps(coco, tmp_path_factory.mktemp("maps"))


def command(maps: Path, out: Path, processes: int) -> list[str]:
    cyborgs = str(Path(sys.executable).with_name("cyborgs"))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--no-python"]
    evaluate = ["evaluate", "cocostuff-fcn", "--weights", "random", "--data", str(maps), "--out", str(out)]
    start = [cyborgs] if processes == 1 else [sys.executable, *launch, cyborgs]
    return [*start, *evaluate, "--network", str(out.with_suffix(".safetensors")), "--set", *SETTINGS]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return decode_tensors(out.with_suffix(".safetensors").read_bytes())[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "ended_by"),
    [(1, signal.SIGKILL), pytest.param(1, signal.SIGTERM, marks=pytest.mark.many), (2, signal.SIGTERM)],
)
def test_it_goes_on_to_equal_tensors(maps: Path, tmp_path: Path, processes: int, ended_by: signal.Signals) -> None:
    whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
    subprocess.run(command(maps, whole, processes), check=True, capture_output=True, timeout=300)
    started = subprocess.Popen(
        command(maps, broken, processes), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not partial_file(broken).exists():
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(started.pid, ended_by)
    said = started.communicate(timeout=120)[1]
    assert not broken.exists(), "it had ended before"
    if (processes, ended_by) == (1, signal.SIGTERM):
        assert started.returncode == 75
        assert "stopped; what was done is saved" in said
    again = subprocess.run(command(maps, broken, processes), capture_output=True, text=True, check=True, timeout=300)
    assert "goes on from step" in again.stderr
    one, two = tensors(whole), tensors(broken)
    assert one.keys() == two.keys()
    assert [name for name in one if not one[name].equal(two[name])] == []
    figures = [json.loads(out.read_text())["figures"] for out in (whole, broken)]
    assert figures[0] == figures[1]
    assert not partial_file(broken).exists()


def test_two_processes_share_no_frozen_protocol(coco: Path, tmp_path: Path) -> None:
    cyborgs = str(Path(sys.executable).with_name("cyborgs"))
    environment = os.environ | {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "CYBORGS_MEETING_FILE": str(tmp_path / "m"),
    }
    ended = subprocess.run(
        [cyborgs, "evaluate", "region-linear", "--weights", "random", "--data", str(coco)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "region-linear measures a frozen backbone in one process: start it without torchrun"
    )

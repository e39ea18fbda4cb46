"""A stage in several processes: what it leaves, how it stops, and what it says when one of them fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from flows.launchers.process import launch
from flows.watch import Watch
from schemas.errors import EXIT_PREEMPTED
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.workers import run_workers
from storage.artifacts import Standings
from storage.run import open_run
from tests.pipeline import assert_same_results, prepare, run_all

ROOT = Path(__file__).parents[2]
TWO = ("numerics.world_size=2", "placement.launcher=process")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run of two processes a stage, undisturbed."""
    url = tmp_path_factory.mktemp("run") / "undisturbed"
    prepare(url, tiny_config, photographs, *TWO)
    run_all(url)
    return url


@pytest.fixture
def started(tmp_path: Path, photographs: Path, tiny_config: Path, finished: Path) -> Path:
    """The same run with nothing but index, warm-up and first masks done."""
    url = tmp_path / "started"
    shutil.copytree(finished, url, symlinks=True)
    for name in ("train cycle 0", "evaluate cycle 0", "bootstrap-masks cycle 1", "train cycle 1", "evaluate cycle 1"):
        shutil.rmtree(url / str(_standing(url, name).folder))
    return url


def _standing(url: Path, name: str):  # type: ignore[no-untyped-def]
    return next(found for found in Standings(open_run(str(url))).all() if found.step.name == name)


def _train(url: Path, **environment: str) -> "subprocess.Popen[str]":
    request = StageRequest(run=str(url), stage="train", cycle=0)
    return subprocess.Popen(
        request.command(), stderr=subprocess.PIPE, text=True, env=os.environ | environment, cwd=ROOT
    )

"""One stack for all tests: server on Postgres, worker and work pool through compose, deployments by prefect.yaml."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import draw_scenes
from tests.containers.stack import Stack

UID = 1234


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    base = tmp_path_factory.mktemp("stack")
    base.parent.chmod(0o755)
    base.parent.parent.chmod(0o755)
    base.chmod(0o755)
    photographs = draw_scenes(base / "photographs", 18)
    storage = base / "storage"
    storage.mkdir()
    os.chown(storage, UID, UID)
    with Stack(photographs, storage, base, uid=UID) as stack:
        yield stack


@pytest.fixture(scope="session")
def undisturbed(stack: Stack) -> Path:
    """A run of two cycles that nobody disturbed; other tests are held against it."""
    done = stack.run_full("undisturbed", *stack.SETTINGS)
    assert done.state == "Completed", done.log
    return stack.storage / "undisturbed"


@pytest.fixture(scope="session")
def undisturbed_cycle(stack: Stack) -> Path:
    """A run of one cycle, by `cyborgs run` in a single container: what disturbed runs have to end as."""
    settings = [part for setting in (*stack.SETTINGS, *stack.ONE_CYCLE) for part in ("--set", setting)]
    run = ["run", "demo", "--run", "/storage/undisturbed-cycle", "--data", "/data"]
    stack.run_image("cyborgs", *run, *settings, "--set", "placement.launcher=inline")
    return stack.storage / "undisturbed-cycle"

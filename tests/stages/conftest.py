"""Finished runs, each made once."""

from pathlib import Path

import pytest

from tests.pipeline import prepare, run_all

ONE_CYCLE = ("schedule.epochs=4", "optimization.optimizer=sgd", "schedule.checkpoint_epochs=[3]")
"""Two epochs of warm-up, two of training; a third of the states' size is the optimiser's otherwise."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """Tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("undisturbed") / "run"
    prepare(url, tiny_config, photographs, *ONE_CYCLE)
    run_all(url)
    return url


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run from start to end; tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("run") / "tiny"
    prepare(url, tiny_config, photographs)
    run_all(url)
    return url

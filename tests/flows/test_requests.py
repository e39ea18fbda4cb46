"""What is meant by a config that is named, and by one that is left out."""

from pathlib import Path

import pytest

from flows.requests import understand
from schemas.errors import RunError
from tests.storage.samples import make_run, small_config


def test_a_named_config_stands_below_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBORGS_STORAGE", "/somewhere")
    asked = understand("small", ["seed=3"], None)
    assert (asked.url, asked.name, asked.config.seed) == ("/somewhere/small", "small", 3)


def test_left_out_it_is_what_the_run_was_made_with(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", small_config(train={"temperature": 0.7}), name="mine")
    asked = understand(None, ["seed=3"], str(tmp_path / "run"), default="demo")
    assert asked.name == "mine"
    assert asked.config == run.config.model_copy(update={"seed": 3})


def test_left_out_where_there_is_no_run(tmp_path: Path) -> None:
    assert understand(None, [], str(tmp_path / "new"), default="demo").name == "demo"
    with pytest.raises(RunError, match=r"new: there is no run here: name a config.*--run"):
        understand(None, [], str(tmp_path / "new"))
    with pytest.raises(RunError, match="nothing to run: name a config"):
        understand(None, [], None)

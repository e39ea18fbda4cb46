"""Photographs that change, vanish or break while a run lasts: one clear line, and nothing lost."""

import shutil
from pathlib import Path

import pytest

from schemas.errors import DataError, PhotographChangedError
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage.artifacts import load_artifact, standing
from storage.index import read_quarantine
from storage.run import open_run
from tests.pipeline import prepare


@pytest.fixture
def folder(tmp_path: Path, photographs: Path) -> Path:
    """A copy of the photographs that a test may damage."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


@pytest.mark.parametrize("workers", [0, 1])
def test_changed_photograph_is_named_in_one_line(tmp_path: Path, folder: Path, tiny_config: Path, workers: int) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, folder, f"placement.loader_workers={workers}")
    run_stage(StageRequest(run=str(url), stage="index-images"))
    shutil.copy(folder / "00.png", folder / "07.png")
    with pytest.raises(PhotographChangedError, match=r"^photograph .*07\.png \(row \d+\) has changed") as caught:
        run_stage(StageRequest(run=str(url), stage="warm-up"))
    assert "\n" not in str(caught.value)


def test_missing_photograph_asks_where_they_moved(tmp_path: Path, folder: Path, tiny_config: Path) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, folder)
    run_stage(StageRequest(run=str(url), stage="index-images"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="no such folder"):
        run_stage(StageRequest(run=str(url), stage="warm-up"))
    prepare(url, tiny_config, tmp_path / "moved")
    assert run_stage(StageRequest(run=str(url), stage="warm-up")).computed


def test_few_broken_photographs_are_quarantined(tmp_path: Path, folder: Path, tiny_config: Path) -> None:
    content = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(content[: len(content) // 2])
    (folder / "04.jpg").write_text("not a photograph")
    url = tmp_path / "run"
    prepare(url, tiny_config, folder, "index.max_broken_fraction=0.2")
    run_stage(StageRequest(run=str(url), stage="index-images"))
    run = open_run(str(url))
    found = standing(run, "index-images")
    assert found.manifest is not None
    assert found.manifest.summary == {"photographs": 17, "quarantined": 2}
    quarantined = read_quarantine(load_artifact(run, found))
    assert [row.key for row in quarantined] == ["03.png", "04.jpg"]
    assert quarantined[0].reason.startswith("does not decode")
    assert quarantined[1].reason == "not a photograph: unknown format"


def test_too_many_broken_photographs_stop_the_run(tmp_path: Path, folder: Path, tiny_config: Path) -> None:
    (folder / "03.png").write_bytes(b"")
    url = tmp_path / "run"
    prepare(url, tiny_config, folder)
    with pytest.raises(
        DataError, match=r"1 of 18 photographs are broken, more than 1% .*03\.png: not a photograph.*=0\.0556"
    ):
        run_stage(StageRequest(run=str(url), stage="index-images"))
    assert standing(open_run(str(url)), "index-images").manifest is None
    (folder / "03.png").unlink()
    prepare(url, tiny_config, folder)
    assert run_stage(StageRequest(run=str(url), stage="index-images")).computed

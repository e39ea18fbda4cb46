"""What the report is told, before any browser draws it."""

import base64
import errno
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import main
from schemas.errors import MachineError
from schemas.stages import StageRequest
from stages.execute import run_stage
from stages.report import page
from stages.report.curves import MOST_POINTS, _thinned
from stages.report.data import Tree, report_data
from stages.report.evaluated import read_evaluations
from stages.report.memory import Memory
from stages.report.page import as_script, render
from stages.report.pictures import pictures
from stages.run_masks import cycle_masks
from storage import layout
from storage.artifacts import Standings
from storage.local import LocalStore
from storage.run import Run, open_run
from tests.pipeline import prepare


@pytest.fixture(scope="module")
def data(tiny_run: Path) -> Tree:
    return report_data(open_run(str(tiny_run)))


def labels_of(data_url: str) -> np.ndarray:  # type: ignore[type-arg]
    with Image.open(io.BytesIO(base64.b64decode(data_url.rpartition(",")[2]))) as picture:
        return np.asarray(picture)


def test_label_maps_are_those_of_the_mask_stores(tiny_run: Path, data: Tree) -> None:
    run = open_run(str(tiny_run))
    shown, index = data["pictures"], cycle_masks(run, 0).photographs
    assert [each["row"] for each in shown["photographs"]] == [0, 1]
    assert [each["name"] for each in shown["photographs"]] == [each.key for each in index[:2]]
    assert [each["cycle"] for each in shown["cycles"]] == [0, 1]
    for each in shown["cycles"]:
        masks = cycle_masks(run, each["cycle"])
        for photograph, found in zip(shown["photographs"], each["labels"], strict=True):
            np.testing.assert_array_equal(labels_of(found), masks.row(photograph["row"]).labels)


def test_pictures_in_colours_give_the_same_labels(tiny_run: Path, data: Tree, tmp_path: Path) -> None:
    """As runs of before have them: RGB, at the size of the photograph's picture."""
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy, symlinks=True)
    for path in copy.glob("cycle-*/evaluate/*/figures/*-masks.png"):
        with Image.open(path) as picture:
            size = (8 * picture.width, 8 * picture.height)
            picture.convert("RGB").resize(size, Image.Resampling.NEAREST).save(path)
    # Their manifests name the files as they were: what is drawn is asked without them.
    run = open_run(str(tiny_run))
    standings = Standings(run).all()
    again, _ = pictures(open_run(str(copy)), standings, read_evaluations(run, standings, Memory())[0], Memory())
    for before, after in zip(data["pictures"]["cycles"], again["cycles"], strict=True):
        for old, new in zip(before["labels"], after["labels"], strict=True):
            np.testing.assert_array_equal(labels_of(old), labels_of(new)[4::8, 4::8])


def test_lineage_leads_from_the_photographs_to_the_backbone(data: Tree) -> None:
    known: set[str] = set()
    for row in data["lineage"]:
        assert set(row["from"]) <= known, row["name"]
        assert row["digest"]
        known.add(row["name"])
    assert data["lineage"][0]["name"] == "photographs"
    assert data["lineage"][-1]["from"] == ["train cycle 1"]
    assert data["lineage"][-1]["name"] == "backbone"


def test_curves_stages_health_and_differences(data: Tree) -> None:
    titles = {chart["title"]: chart for chart in data["curves"]}
    assert [line["name"] for line in titles["Mask loss"]["lines"]] == ["train cycle 0", "train cycle 1"]
    steps = [step for line in titles["Loss"]["lines"] for step in line["x"]]
    assert steps == sorted(set(steps)) and len(steps) == 24
    assert titles["Mask loss"]["marks"] == [8, 16], "where the segments begin"
    assert {stage["state"] for stage in data["stages"]} == {"done"}
    assert [row["cycle"] for row in data["health"]["cycles"]] == [0, 1]
    assert "mask_agreement" in data["health"]["cycles"][1]["figures"]
    assert {"setting": "network.architecture", "here": "resnet18", "paper": "resnet50"} in data["differences"]
    assert not any(each["setting"].startswith("placement.") for each in data["differences"])


def test_alarms_have_their_levels_and_figures_of_the_losses_a_chart(data: Tree) -> None:
    titles = {chart["title"]: chart for chart in data["curves"]}
    assert titles["Spread of projections"]["levels"] == [{"value": 0.3, "title": "collapse"}]
    assert titles["Anchors without a positive"]["levels"] == [{"value": 0.9, "title": "orphans"}]
    assert "levels" not in titles["Loss"]
    assert {"Positives an anchor", "Negatives with the anchor's id", "Use of prototypes", "EMA momentum"} <= set(titles)
    assert data["run"]["masks"] is True


def copied(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def folder_of(url: Path, name: str) -> Path:
    return url / str(Standings(open_run(str(url))).input(name).folder)


def all_files(url: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(url.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("file", [layout.METRICS, "figures/000-masks.png"])
def test_a_damaged_evaluation_is_said_left_out_and_left_alone(
    tiny_run: Path, data: Tree, tmp_path: Path, file: str
) -> None:
    url = copied(tiny_run, tmp_path)
    damaged = folder_of(url, "evaluate cycle 0") / file
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    before = all_files(url)
    found = report_data(open_run(str(url)))
    assert all_files(url) == before
    (warning,) = found["warnings"]
    assert warning["stage"] == "evaluate cycle 0"
    assert warning["text"].startswith(f"{file} is damaged: `cyborgs verify {url}`")
    assert [each["cycle"] for each in found["pictures"]["cycles"]] == [1]
    assert len(found["evaluations"][0]["lines"][0]["x"]) == 1
    assert [row["cycle"] for row in found["health"]["cycles"]] == [0, 1], "what the masks' stage says is whole"
    assert found["pictures"]["photographs"] == data["pictures"]["photographs"]


def test_masks_show_before_their_evaluation(tiny_run: Path, data: Tree, tmp_path: Path) -> None:
    """As it drew them: in a later cycle beside the photographs of the one before, in the first with those of the data;
    where these are gone, not yet.
    """
    url = copied(tiny_run, tmp_path)
    whole = data["pictures"]
    (folder_of(url, "evaluate cycle 1") / layout.MANIFEST).unlink()
    assert report_data(open_run(str(url)))["pictures"] == whole
    (folder_of(url, "evaluate cycle 0") / layout.MANIFEST).unlink()
    (folder_of(url, "bootstrap-masks cycle 1") / layout.MANIFEST).unlink()
    first = {"photographs": whole["photographs"], "cycles": whole["cycles"][:1]}
    assert report_data(open_run(str(url)))["pictures"] == first

    run = open_run(str(url))
    moved = run.record.model_copy(update={"data": (str(tmp_path / "gone"),)})
    found = report_data(Run(run.store, moved))
    assert found["pictures"] == {"photographs": [], "cycles": []}
    assert found["warnings"] == []

    labels = folder_of(url, "bootstrap-masks cycle 0") / layout.MASKS / "labels/c/0/0/0"
    labels.write_bytes(b"\0" * labels.stat().st_size)
    found = report_data(open_run(str(url)))
    assert found["pictures"] == {"photographs": [], "cycles": []}
    assert [each["stage"] for each in found["warnings"]] == ["bootstrap-masks cycle 0"]


def test_what_was_read_is_not_read_again(tiny_run: Path, data: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    run = open_run(str(tiny_run))
    assert report_data(run, memory=memory) == data
    read: list[str] = []
    whole = LocalStore.read
    monkeypatch.setattr(LocalStore, "read", lambda store, path: read.append(path) or whole(store, path))
    assert report_data(run, memory=memory) == data
    assert {path.rsplit("/", 1)[-1] for path in read} == {layout.MANIFEST}


def test_a_stage_whose_report_cannot_be_written_is_done(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `evaluate` it is an error: what a cycle ends with is its report."""
    url = copied(tiny_run, tmp_path)
    report = (url / layout.REPORT).read_bytes()
    for stage in ("evaluate", "bootstrap-masks"):
        (folder_of(url, f"{stage} cycle 1") / layout.MANIFEST).unlink()
    run_stage(StageRequest(run=str(url), stage="bootstrap-masks", cycle=1))
    assert (url / layout.REPORT).read_bytes() != report

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page, "write_report", full)
    (folder_of(url, "bootstrap-masks cycle 1") / layout.MANIFEST).unlink()
    capsys.readouterr()
    assert run_stage(StageRequest(run=str(url), stage="bootstrap-masks", cycle=1)).computed
    said = [line for line in capsys.readouterr().err.splitlines() if "report" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: bootstrap-masks cycle 1: no report was written: ")
    with pytest.raises(MachineError, match="no space left"):
        run_stage(StageRequest(run=str(url), stage="evaluate", cycle=1))
    assert Standings(open_run(str(url))).input("evaluate cycle 1").state == "done"


def test_long_logs_are_thinned() -> None:
    lines = [{"step": step} for step in range(10 * MOST_POINTS + 1)]
    assert MOST_POINTS / 2 < len(_thinned(lines)) <= MOST_POINTS
    assert _thinned(lines)[-1] == lines[-1]
    assert len(_thinned(lines[:MOST_POINTS])) == MOST_POINTS
    assert _thinned([]) == []


def test_nothing_in_the_data_ends_the_script(data: Tree) -> None:
    hostile = data | {"run": data["run"] | {"place": "</script><script>alert(1)</script>"}}
    assert "<" not in as_script(hostile)
    assert json.loads(as_script(hostile)) == json.loads(json.dumps(hostile))
    assert "<script>alert(1)" not in render(hostile)


def test_a_run_that_has_just_begun_has_a_report(
    tmp_path: Path, tiny_config: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path / "run", tiny_config, photographs)
    run_stage(StageRequest(run=str(tmp_path / "run"), stage="index-images"))
    capsys.readouterr()
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/run/report/index.html\n"
    found = report_data(open_run(str(tmp_path / "run")))
    assert found["pictures"] == {"photographs": [], "cycles": []}
    assert found["curves"] == [] and found["health"]["cycles"] == []
    assert main(["report", str(tmp_path / "nowhere")]) == 2

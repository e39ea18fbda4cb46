"""The table of a study, from results that are there."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from schemas.planned_protocols import PROTOCOL_NAMES, PlannedProtocol
from schemas.protocols import paper_figures
from schemas.study import Study, Variant
from stages.main_figures import main_figures
from stages.study_report import Measured, at_the_end, draw_curves, main, markdown
from storage.studies import Member, result_path
from tests.stages.test_comparison import result

STUDY = Study.model_validate(
    {
        "base": "small",
        "seeds": [0, 1],
        "variants": {"random": {"weights": "random"}, "other": {"weights": "other.pth"}, "none": {"weights": "n.pth"}},
        "measure": [{"protocol": "voc07-svm", "data": "/data"}],
    }
)


def test_rows_have_mean_and_interval_and_the_number_of_seeds(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name, seed, value in (("random", 0, 20.0), ("random", 1, 22.0), ("other", 0, 30.5)):
        text = result(name, seed, value).model_dump_json()
        (tmp_path / result_path(STUDY, Member(name, seed), STUDY.measure[0])).write_text(text)
    # What was measured of other weights, or on other data, is another file.
    other = STUDY.model_copy(update={"variants": {"other": Variant(weights="another.pth")}})
    (tmp_path / result_path(other, Member("other", 0), STUDY.measure[0])).write_text("{")
    (tmp_path / "study.json").write_text(STUDY.model_dump_json())
    assert main([str(tmp_path)]) == 0
    # 1 / sqrt(2) * sqrt(2) * t(0.975, 1) = 12.706
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| variant | voc07-svm map | seeds |",
        "| --- | --- | --- |",
        "| random | 21.00 ± 12.71 | 2 |",
        "| other | 30.50 | 1 |",
        "| none | – | 0 |",
    ]
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["variant"], row["seed"], row["value"]) for row in rows if row["figure"] == "map"] == [
        ("random", "0", "20.0"), ("random", "1", "22.0"), ("other", "0", "30.5"),
    ]  # fmt: skip
    assert not (tmp_path / "curves.png").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "study.json", "table.csv", "table.md"]


def test_one_protocol_twice_has_columns_and_results_of_its_own(tmp_path: Path) -> None:
    one = STUDY.measure[0]
    two = one.model_copy(update={"name": "other-folds", "set": ("folds=2",)})
    study = STUDY.model_copy(update={"measure": (one, two), "variants": {"random": Variant(weights="random")}})
    (tmp_path / "results").mkdir()
    for planned, value in ((one, 20.0), (two, 7.0)):
        text = result("random", 0, value).model_dump_json()
        (tmp_path / result_path(study, Member("random", 0), planned)).write_text(text)
    (tmp_path / "study.json").write_text(study.model_dump_json())
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "table.md").read_text().splitlines()[::2] == [
        "| variant | voc07-svm map | other-folds map | seeds |",
        "| random | 20.00 | 7.00 | 1 |",
    ]


def test_only_the_last_epochs_count_in_the_table_and_all_in_the_curves(tmp_path: Path) -> None:
    found = [
        Measured("small", seed, "voc07-svm", epochs, result("small", seed, epochs + seed))
        for seed in (0, 1)
        for epochs in (8, 16, 24)
    ]
    study = STUDY.model_copy(update={"variants": {"small": Variant()}})
    last = at_the_end(study, found)
    assert last["small", "voc07-svm"]["map"] == [24.0, 25.0]
    assert "| small | 24.50 ± 6.35 | 2 |" in markdown(study, last)
    # Of a seed that is half-way nothing stands in the table.
    assert at_the_end(study, found[:5])["small", "voc07-svm"]["map"] == [24.0]
    early = study.model_copy(update={"measure": (STUDY.measure[0].model_copy(update={"cycles": (0, 1)}),)})
    assert at_the_end(early, found)["small", "voc07-svm"]["map"] == [16.0, 17.0]
    assert draw_curves(found, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 500
    assert not draw_curves([each for each in found if each.epochs == 8], tmp_path / "none.png")


def test_the_table_has_the_columns_of_the_papers() -> None:
    """What the paper reports of a protocol, in its order, is what is shown of it."""
    for protocol in PROTOCOL_NAMES:
        of_paper = tuple(paper_figures(protocol, {"image_list": "1percent.txt"}))
        assert of_paper in ((), main_figures(protocol)), protocol
    study = STUDY.model_copy(update={"measure": (PlannedProtocol(protocol="voc-detection", data="/data"),)})
    last = {("random", "voc-detection"): {"box_ap": [58.0], "box_ap50": [83.0], "box_ap75": [64.3]}}
    assert markdown(study, last).splitlines()[::2] == [
        "| variant | voc-detection box_ap | voc-detection box_ap50 | voc-detection box_ap75 | seeds |",
        "| random | 58.00 | 83.00 | 64.30 | 1 |",
        "| none | – | – | – | 0 |",
    ]


def test_a_folder_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}: name the folder of one study")

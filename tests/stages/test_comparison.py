"""`cyborgs compare`: means, intervals, differences, and what may not be put side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cli.main import main
from schemas.errors import DataError
from schemas.results import ProtocolResult, UsedData, UsedWeights
from stages.comparison import compare_results, difference, read_result, summarise
from storage.provenance import provenance


def result(name: str, seed: int, value: float, **changes: Any) -> ProtocolResult:
    fields: dict[str, Any] = {
        "protocol": "voc07-svm",
        "settings": {"crop": 224},
        "smoke": False,
        "weights": UsedWeights(
            source=f"runs/{name}",
            name=name,
            kind=name,
            architecture="resnet18",
            seed=seed,
            digest=f"{name}{seed}",
            used=120,
            left_out=(),
        ),
        "data": UsedData(path="/data/voc", digest="d", photographs={"test": 3}, left_out={}),
        "seeds": {"protocol": 0, "weights": seed},
        "figures": {"map": value, "ap_cat": value / 2},
        "skipped": {},
        "seconds": 1.0,
        "provenance": provenance(),
    }
    return ProtocolResult(**(fields | changes))


def test_mean_and_interval_of_seeds_by_students_t() -> None:
    """Of 1, 2, 6: mean 3, s = sqrt(7), and t of 2 degrees of freedom at 97.5 % is 4.30265 (any table of t)."""
    found = summarise([1.0, 2.0, 6.0])
    assert found.mean == 3
    assert found.half_width == pytest.approx(4.30265 * np.sqrt(7 / 3), rel=1e-5)
    assert summarise([5.0]).half_width is None


def test_difference_of_two_kinds_of_weights_is_welchs() -> None:
    one, two = [10.0, 12.0, 11.0], [14.0, 19.0, 15.0, 16.0]
    found = difference(one, two)
    reference = stats.ttest_ind(two, one, equal_var=False).confidence_interval(0.95)
    assert found.half_width is not None
    assert found.mean - found.half_width == pytest.approx(reference.low)
    assert found.mean + found.half_width == pytest.approx(reference.high)
    assert difference([1.0], [3.0, 4.0]).half_width is None


def test_counts_are_no_figures_to_subtract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, regions in (("a", 10_698.0), ("b", 10_700.0)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(result(name, 0, 1.0, figures={"map": 1.0, "regions": regions}).model_dump_json())
    assert main(["compare", *map(str, files)]) == 0
    *_, of_map, of_regions = capsys.readouterr().out.splitlines()
    assert of_map.split()[:4] == ["map", "1.00", "1.00", "+0.00"]
    assert of_regions.split() == ["regions", "10,698", "10,700"]


def test_seeds_of_the_same_weights_make_a_column_and_the_paper_is_marked() -> None:
    results = [result("random", seed, 10.0 + seed) for seed in range(3)]
    results += [result("small", seed, 20.0 + seed) for seed in range(3)]
    (table,) = compare_results(results)
    assert table.columns == [("random", 3), ("small", 3)]
    assert [row.figure for row in table.rows] == ["map", "ap_cat"]
    first, second = table.rows[0].values
    assert first is not None and second is not None
    assert (first.mean, second.mean) == (11, 21)
    assert table.rows[0].differences[0] is None
    assert table.rows[0].differences[1] == difference([10, 11, 12], [20, 21, 22])
    assert table.rows[0].paper == (86.9, "Table 1")
    assert table.rows[1].paper is None


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"crop": 112}},
        {"smoke": True},
        {"data": UsedData(path="/data/voc", digest="other", photographs={"test": 3}, left_out={})},
        {"protocol": "knn"},
    ],
    ids=["settings", "smoke", "data", "protocol"],
)
def test_what_was_measured_otherwise_stands_in_a_table_of_its_own(other: dict[str, Any]) -> None:
    assert len(compare_results([result("a", 0, 1.0), result("b", 0, 2.0)])) == 1
    assert len(compare_results([result("a", 0, 1.0), result("b", 0, 2.0, **other)])) == 2


def test_weights_that_share_a_name_alone_are_no_seeds_of_each_other() -> None:
    """Two files model.pth, a run and its fork; two runs of one config and seed that came out differently."""
    one, two = result("mine", 0, 1.0), result("mine", 0, 2.0)
    weights = two.weights.model_copy(update={"kind": "other", "digest": "other", "source": "runs/fork"})
    for other in (
        two.model_copy(update={"weights": weights}),
        two.model_copy(update={"weights": weights.model_copy(update={"kind": "mine"})}),
        result("mine", 1, 2.0).model_copy(update={"weights": weights}),
    ):
        (table,) = compare_results([one, other])
        assert table.columns == [("mine of runs/mine", 1), ("mine of runs/fork", 1)]
        assert table.rows[0].differences[1] == difference([1.0], [2.0])


@pytest.mark.parametrize("change", [{"smoke": True}, {"figures": {"map": 10.0, "classes": 9.0}}])
def test_the_papers_number_stands_only_beside_the_whole_data_set(change: dict[str, Any]) -> None:
    (table,) = compare_results([result("a", 0, 10.0, **change)])
    assert table.rows[0].paper is None


def test_the_same_result_twice_is_no_second_seed() -> None:
    with pytest.raises(DataError, match="given twice"):
        compare_results([result("a", 0, 1.0), result("a", 0, 1.0)])


def test_the_command_in_three_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, start in (("random", 10.0), ("small", 20.0)):
        for seed in range(2):
            files.append(tmp_path / f"{name}-{seed}.json")
            files[-1].write_text(result(name, seed, start + seed).model_dump_json())
    arguments = ["compare", *map(str, files)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "random (2 seeds)" in text and "the paper" in text and "86.9 (Table 1)" in text
    assert "10.50 ± 6.35" in text  # t of 1 degree of freedom, 12.706, x 0.7071 / sqrt 2
    assert "+10.00 ± " in text
    assert main([*arguments, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**voc07-svm on voc**"
    assert {line.count("|") for line in lines[2:]} == {6}
    assert main([*arguments, "--format", "csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert rows[1][3:7] == ["map", "random", "2", "10.5"]
    assert rows[1][-2:] == ["86.9", "Table 1"]
    assert main([*arguments, "--format", "html"]) == 2
    assert "choose table, csv or markdown" in capsys.readouterr().err


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_result(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"projection_std": 1.0}')
    with pytest.raises(DataError, match="not a result of `cyborgs evaluate`"):
        read_result(tmp_path / "other.json")

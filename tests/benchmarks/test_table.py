"""The table, latest.json, and the exit code."""

import json
from pathlib import Path
from typing import Literal

import pytest

import benchmarks.__main__ as command
from benchmarks.figure import Figure
from benchmarks.table import as_markdown, write_json

CORE = {"figure", "value", "target", "better"}


def figure(value: float, *, better: Literal["lower", "higher"] = "lower", name: str = "step") -> Figure:
    return Figure(name, value, 1.5, better, "x", {"images": 16, "GFLOP": 1234.5}, (1.0, 2.0), 3, {"step s": 0.25})


def test_a_target_is_met_on_its_side() -> None:
    assert figure(1.5).met
    assert not figure(1.51).met
    assert figure(1.51, better="higher").met
    assert not figure(1.49, better="higher").met


def test_the_first_column_counts_and_a_miss_is_marked() -> None:
    lines = as_markdown([figure(1.2), figure(1.8, name="peer")], machine="a machine").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[2][:5] == ["images 16, GFLOP 1,234", "step", "1.2", "≤ 1.5", "1 – 2"]
    assert cells[3][2] == "1.8 ✗"
    assert len({len(line) for line in lines[:4]}) == 1, "columns stand below each other"
    assert "a machine" in lines


def test_json_is_a_list_of_figures(tmp_path: Path) -> None:
    write_json(tmp_path / "latest.json", [figure(1.2)], machine="a machine", quick=True)
    (found,) = json.loads((tmp_path / "latest.json").read_text())
    assert found["counts"] == {"images": 16, "GFLOP": 1234.5}
    assert {name: found[name] for name in CORE} == {"figure": "step", "value": 1.2, "target": 1.5, "better": "lower"}
    assert found["spread"] == [1.0, 2.0]
    assert found["quick"] is True


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--check"], 1)])
def test_a_miss_is_an_error_only_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    monkeypatch.setattr(command, "_measure", lambda name, **_: [figure(9.0, name=name)])
    out = tmp_path / "latest.json"
    assert command.main(["step", "--out", str(out), *arguments]) == code
    assert "✗ misses its target: step" in capsys.readouterr().out
    assert len(json.loads(out.read_text())) == 1


def test_a_benchmark_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MODULES", {"broken": "no_such_module", "step": "step"})
    real = command._measure
    monkeypatch.setattr(
        command, "_measure", lambda name, **o: real(name, **o) if name == "broken" else [figure(1.0, name=name)]
    )
    out = tmp_path / "latest.json"
    assert command.main(["--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "failed: broken" in told
    assert "no_such_module" in told
    assert [found["figure"] for found in json.loads(out.read_text())] == ["step"]


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["speed"])
    assert ended.value.code == 2
    assert "speed: no such figure" in capsys.readouterr().err


def test_one_figure_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sample data, on generated photographs; two label grids for each."""
    monkeypatch.delenv("CYBORGS_SAMPLE_DATA", raising=False)
    out = tmp_path / "latest.json"
    assert command.main(["--quick", "--work", str(tmp_path / "work"), "--out", str(out), "masks-in-loader"]) == 0
    (found,) = json.loads(out.read_text())
    assert found["counts"]["label grids"] == 2 * found["counts"]["photographs"] == 64
    assert found["note"] == "generated JPEGs of COCO's sizes"
    assert 0 < found["spread"][0] <= found["value"] <= found["spread"][1]
    made = found["parts"]["masks ms/photograph"] / found["parts"]["decode ms/photograph"]
    assert found["spread"][0] / 2 < made < 2 * found["spread"][1]


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    """All rows of docs/performance.md, with small sizes."""
    out = tmp_path / "latest.json"
    assert command.main(["--quick", "--work", str(tmp_path / "work"), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    names = " ; ".join(each["figure"] for each in found)
    for name in (
        "step resnet18 96 px", "warm-up step resnet18", "k-means K=8", "k-means K=64", "k-means K=256",
        "bootstrap ", "peer against", "store", "store below int64", "masks in the loader", "loader",
        "scaling train", "scaling bootstrap-masks", "memory", "start", "flow",
    ):  # fmt: skip
        assert name in names
    assert all(each["counts"] and each["value"] > 0 for each in found if each["figure"] != "memory")

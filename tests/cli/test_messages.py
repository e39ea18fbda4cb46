"""What bad input gets on the command line: one line, exit code 2, nothing written, no traceback."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.main import expand_options, main
from schemas import errors
from tests.storage.samples import make_photographs, make_run, snapshot

SMALL = """
network: {architecture: resnet18}
masks: {layer: layer2.1}
schedule: {epochs: 3, warmup_epochs: 1, bootstrap_every_epochs: 2}
optimization: {batch_size: 4, lr_warmup_epochs: 1}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of all kinds in the working directory, and small.yaml."""
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CYBORGS_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    make_photographs(tmp_path / "good", 6)
    make_photographs(tmp_path / "few", 3)
    for name in ("empty", "broken", "cut"):
        (tmp_path / name).mkdir()
    for number in range(6):
        (tmp_path / "broken" / f"{number}.jpg").write_bytes(b"no photograph")
        (tmp_path / "cut" / f"{number}.png").write_bytes((tmp_path / f"good/{number}.png").read_bytes()[:60])
    (tmp_path / "list.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "../x.png"}]}))
    (tmp_path / "images").mkdir()
    (tmp_path / "odd" / "run.json").mkdir(parents=True)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


RUN = ["run", "small.yaml", "--run", "out", "--data"]
MEASURE = ["--weights", "random", "--data", "good"]
MISTAKES: list[tuple[list[str], list[str]]] = [
    ([*RUN, "missing"], ["missing", "no such folder"]),
    ([*RUN, "empty"], ["empty", "no photographs"]),
    ([*RUN, "broken"], ["broken", "none of 6", "0.jpg"]),
    ([*RUN, "cut"], ["cut", "none of 6", "0.png"]),
    ([*RUN, "few"], ["few", "3 photographs", "batch of 4"]),
    ([*RUN, "small.yaml"], ["small.yaml", "this is a file"]),
    ([*RUN, "none.json"], ["none.json", "no such file"]),
    ([*RUN, "list.json"], ["list.json", "image 0", "../x.png"]),
    ([*RUN, "good", "missing"], ["missing", "no such folder"]),
    ([*RUN, "~nobody-of-that-name/photographs"], ["~nobody-of-that-name"]),
    ([*RUN, "good", "./good"], ["good", "given twice"]),
    ([*RUN[:-1]], ["--data"]),
    ([*RUN, "good", "--set", "train.temprature=1"], ["train.temprature", "train.temperature"]),
    ([*RUN, "good", "--set", "masks.clusters=[2,300]"], ["masks.clusters", "300", "256"]),
    ([*RUN, "good", "--set", "schedule.epochs=-3"], ["schedule.epochs", "-3"]),
    ([*RUN, "good", "--set", "masks.layer=layer2.2"], ["masks.layer", "layer2.2", "resnet18", "layer2.1"]),
    ([*RUN, "good", "--set", "nonsense"], ["nonsense", "name=value"]),
    ([*RUN, "good", "--set", "numerics.world_size=3"], ["optimization.batch_size", "world_size 3"]),
    ([*RUN, "good", "--set", "network.start=none.pth"], ["network.start", "none.pth"]),
    (["run", "nonsense", "--data", "good"], ["nonsense", "demo"]),
    (["run", "none.yaml", "--data", "good"], ["none.yaml", "no such file"]),
    (["run", "small.yaml", "--data", "good", "--run", "small.yaml/run"], ["small.yaml", "--run"]),
    (["run", "small.yaml", "--data", "good", "--run", "ftp://host/run"], ["ftp://", "not supported"]),
    (["plan", "nonsense"], ["nonsense", "demo"]),
    (["plan", "smal"], ["smal", "did you mean small?"]),
    (["study", "tabel1-small"], ["tabel1-small", "did you mean table1-small?"]),
    (["plan", "demo", "--set", "masks.clusters=[9,2]"], ["masks.clusters", "9..2"]),
    (["status", "nowhere"], ["nowhere", "no run here"]),
    (["status", "odd"], ["odd/run.json", "cannot be read", "directory"]),
    (["run", "small.yaml", "--run", "odd", "--data", "good"], ["odd/run.json", "cannot be read", "directory"]),
    (["masks", "path", "nowhere", "--cycle", "0"], ["nowhere", "no run here"]),
    (["stage", "index-images", "--run", "nowhere"], ["nowhere", "no run here"]),
    (["stage", "bake", "--run", "nowhere"], ["bake", "index-images"]),
    (["evaluate", "magic", *MEASURE], ["magic", "mask-quality", "knn"]),
    (["evaluate", "knn", *MEASURE, "--set", "neighbors=[3]"], ["neighbors", "neighbours"]),
    (["evaluate", "knn", *MEASURE, "--set", "temperature=0"], ["temperature", "0", "greater"]),
    (["evaluate", "knn", *MEASURE, "--out", "nowhere/x.json"], ["--out", "nowhere", "does not exist"]),
    (["evaluate", "knn", *MEASURE, "--encoder", "both"], ["both", "online or target"]),
    (["evaluate", "knn", "--weights", "random", "--data", "missing"], ["missing", "no such folder"]),
    (["evaluate", "knn", "--weights", "none.pth", "--data", "good"], ["none.pth", "no such file or run"]),
    (["evaluate", "knn", "--weights", "small.yaml", "--data", "good"], ["small.yaml", "never unpickled"]),
    (["compare", "none.json"], ["none.json", "cannot be read"]),
    (["compare", "small.yaml"], ["small.yaml", "not a result"]),
    (["export", "nowhere", "--format", "timm", "-o", "x.pth"], ["nowhere", "no run here"]),
    (["doctor", "--data", "missing"], ["missing", "no such folder"]),
    (["doctor", "--against", "good"], ["--against", "--data"]),
    (["masks", "show", "nowhere", "--cycle", "0"], ["nowhere", "no run here"]),
]


def call(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES, ids=lambda value: " ".join(value)[:70])
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    before = snapshot(place)
    code, out, err = call(arguments, capsys)
    assert [part for part in parts if part not in err] == [], err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert (code, out) == (2, "")
    assert snapshot(place) == before
    assert not (place / "out").exists()
    assert not (place / "runs").exists()


MISTAKES_ABOUT_A_RUN: list[tuple[list[str], list[str]]] = [
    (["export", "made", "--format", "timm", "-o", "x.pth"], ["made", "no trained weights yet"]),
    (["export", "made", "--format", "timm", "-o", "x.pth", "--cycle", "1"], ["train cycle 1", "not done"]),
    (["evaluate", "knn", "--weights", "made", "--data", "good"], ["made", "no trained weights yet"]),
    (["masks", "show", "made", "--cycle", "0"], ["bootstrap-masks cycle 0", "not done"]),
    (["masks", "path", "made", "--cycle", "0"], ["bootstrap-masks cycle 0", "pending", "cyborgs status made"]),
    (["masks", "path", "made", "--cycle", "7"], ["cycle 7", "cycles 0 to 1"]),
    (["stage", "train", "--run", "made"], ["train", "--cycle"]),
    (["stage", "warm-up", "--run", "made", "--cycle", "0"], ["warm-up", "--cycle"]),
    (["stage", "train", "--run", "made", "--cycle", "9"], ["cycle 9", "cycles 0 to 1"]),
    (["stage", "warm-up", "--run", "made"], ["warm-up", "index-images", "first"]),
]


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES_ABOUT_A_RUN, ids=lambda value: " ".join(value)[:70])
def test_what_a_run_cannot_do_yet_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    make_run(place / "made")
    before = snapshot(place)
    code, out, err = call(arguments, capsys)
    assert [part for part in parts if part not in err] == [], err
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert snapshot(place) == before


def test_a_damaged_run_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(place / "made")
    (place / "made" / "run.json").write_text("{")
    shutil.rmtree(place / "made" / "history")
    code, out, err = call(["status", "made"], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "run.json" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run"], "name a config"),
        (["run", "demo", "--nonsense"], "--nonsense"),
        (["run", "demo", "--data"], "--data"),
        (["status"], "RUN"),
        (["masks", "path", "made"], "--cycle"),
        (["masks", "path", "made", "--cycle", "-1"], "--cycle"),
        (["masks", "path", "made", "--cycle", "two"], "--cycle"),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistyped_command_names_what_is_wrong(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    before = snapshot(place)
    code, out, err = call(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert part in err
    assert snapshot(place) == before


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(["status", "nowhere", "--debug"], capsys)
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("run nowhere: ")


def test_a_fault_of_ours_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.show.print_plan", lambda *_: 1 / 0)
    code, _, err = call(["plan", "demo"], capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "ZeroDivisionError" in err
    assert "--debug" in err


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("run c --data A B", "run c --data A --data B"),
        ("run c --data A", "run c --data A"),
        ("run c --data A B --run R", "run c --data A --data B --run R"),
        ("run c --set a=1 b=2 --data A B C", "run c --set a=1 --set b=2 --data A --data B --data C"),
        ("run c --data A --data B C", "run c --data A --data B --data C"),
        ("run c --run R extra", "run c --run R extra"),
        ("run --data=A B", "run --data=A --data B"),
        ("status R", "status R"),
    ],
)
def test_several_values_after_one_option(given: str, expanded: str) -> None:
    assert " ".join(expand_options(given.split())) == expanded


def test_status_and_plan_print_to_standard_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(place / "made")
    code, out, err = call(["status", "made"], capsys)
    assert (code, err) == (0, "")
    assert "0 of 8 stages done" in out
    code, out, err = call(["plan", "coco"], capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any("train cycle 0" in line and "5 to 99" in line for line in lines)
    assert any("bootstrap-masks cycle 7" in line and "before 700" in line for line in lines)


def test_plan_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    from schemas.config import RunConfig
    from schemas.loading import field_names

    code, out, _ = call(["plan", "demo", "--settings"], capsys)
    assert code == 0
    listed = [line.split(" = ")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert listed == field_names(RunConfig)
    assert "masks.layer = [layer2.1]" in out


def test_every_exit_code_is_explained() -> None:
    """Those of the conventions too: 128 + the number of a signal."""
    page = (Path(__file__).parents[2] / "docs" / "resume.md").read_text()
    codes = [str(value) for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert len(codes) >= 6
    assert [code for code in ("0", *codes, "128 + n") if f"\n| {code} | " not in page] == []

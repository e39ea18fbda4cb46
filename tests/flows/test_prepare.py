"""Preparing a run: what is checked before anything is written, and what an existing run lets change."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows import numerics
from flows.fork import fork
from flows.prepare import all_done, default_run, prepare_run
from schemas.artifacts import result_digest
from schemas.config import RunConfig
from schemas.errors import ConfigError, CyborgsError, DataError, RunError
from storage import layout
from storage.artifacts import Standings
from storage.local import LocalStore
from storage.run import Run, open_run
from tests.storage.samples import commit, encoded, make_photographs, photograph, small_config, snapshot


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_photographs(tmp_path / "data", 6)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "runs" / "mine")


def prepared(url: str, data: Path | None, *, update: bool = False, **parts: Any) -> Run:
    given = (str(data),) if data is not None else ()
    return prepare_run(url, small_config(**parts), name="small", data=given, update=update)


def committed(run: Run) -> Run:
    """With one artifact, so that what the run was told is settled."""
    commit(run, "index-images")
    return run


def test_a_run_is_created_with_what_was_asked_for(url: str, data: Path) -> None:
    run = prepared(url, data)
    assert open_run(url).record == run.record
    assert (run.record.name, run.record.photographs, run.record.data) == ("small", 6, (str(data),))
    assert set(run.record.pins) == {"photographs"}
    assert list(snapshot(Path(url))) == ["history/run-00000.json", "run.json"]
    assert not all_done(run)


def test_the_same_again_changes_nothing(url: str, data: Path) -> None:
    first = prepared(url, data).record
    before = snapshot(Path(url))
    assert prepared(url, data).record == first
    committed(open_run(url))
    assert prepared(url, data).record == first
    assert prepared(url, None).record == first, "a run knows where its photographs are"
    assert snapshot(Path(url))["run.json"] == before["run.json"]


def test_numerics_are_pinned_at_creation(url: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_cores", lambda: 3)
    monkeypatch.setattr(numerics, "_native_precision", lambda _: "bfloat16")
    run = committed(prepared(url, data, numerics={"precision": "auto"}))
    assert (run.config.numerics.threads, run.config.numerics.precision) == (3, "bfloat16")
    monkeypatch.setattr(numerics, "_cores", lambda: 64)
    monkeypatch.setattr(numerics, "_native_precision", lambda _: "float32")
    assert prepared(url, data, numerics={"precision": "auto"}).record == run.record, "another machine"


def test_processes_share_the_cores(url: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_cores", lambda: 7)
    assert prepared(url, data, numerics={"world_size": 2}).config.numerics.threads == 3


def test_what_is_said_of_numerics_is_kept(url: str, data: Path) -> None:
    run = prepared(url, data, numerics={"precision": "float32", "threads": 5})
    assert (run.config.numerics.threads, run.config.numerics.precision) == (5, "float32")


def test_another_defining_setting_is_refused_and_the_difference_shown(url: str, data: Path) -> None:
    committed(prepared(url, data))
    before = snapshot(Path(url))
    with pytest.raises(RunError, match=r"train\.temperature 0\.1 -> 0\.2.*--update") as caught:
        prepared(url, data, train={"temperature": 0.2})
    assert "\n" not in str(caught.value)
    assert "masks" not in str(caught.value), "only what differs is shown"
    assert snapshot(Path(url)) == before


def test_update_takes_the_new_config_and_keeps_what_stays_valid(url: str, data: Path) -> None:
    committed(prepared(url, data))
    run = prepared(url, data, update=True, train={"temperature": 0.2})
    assert open_run(url).record == run.record
    assert run.config.train.temperature == 0.2
    assert run.record.config_digest == result_digest(run.config)
    assert [change.what for change in run.record.history] == [{"train.temperature": (0.1, 0.2)}]
    assert Standings(run).all()[0].state == "done"


def test_update_to_more_photographs_a_batch_than_there_are_is_refused(url: str, data: Path) -> None:
    committed(prepared(url, data))
    before = snapshot(Path(url))
    with pytest.raises(CyborgsError, match="batch"):
        prepared(url, data, update=True, optimization={"batch_size": 64})
    assert snapshot(Path(url)) == before


def test_placement_is_free_and_written_down(url: str, data: Path) -> None:
    first = committed(prepared(url, data))
    run = prepared(url, data, placement={"device": "cpu", "loader_workers": 2})
    assert run.config.placement.loader_workers == 2
    assert run.record.config_digest == first.record.config_digest
    assert [change.what for change in run.record.history] == [
        {"placement.device": ("auto", "cpu"), "placement.loader_workers": (None, 2)}
    ]
    assert open_run(url).record == run.record


def test_photographs_that_have_moved_are_found_where_they_are_now(url: str, data: Path, tmp_path: Path) -> None:
    committed(prepared(url, data))
    moved = data.rename(tmp_path / "moved")
    run = prepared(url, moved)
    assert run.record.data == (str(moved),)
    assert [change.what for change in run.record.history] == [{"data": ([str(data)], [str(moved)])}]
    assert Standings(run).all()[0].state == "done"


def test_a_new_place_that_does_not_exist_is_refused(url: str, data: Path, tmp_path: Path) -> None:
    committed(prepared(url, data))
    before = snapshot(Path(url))
    with pytest.raises(DataError, match="none: no such folder"):
        prepared(url, tmp_path / "none")
    assert snapshot(Path(url)) == before


def test_a_run_without_artifacts_takes_a_mended_config(url: str, data: Path, tmp_path: Path) -> None:
    prepared(url, data)
    other = make_photographs(tmp_path / "other", 9)
    run = prepared(url, other, train={"temperature": 0.2})
    assert (run.config.train.temperature, run.record.photographs) == (0.2, 9)
    assert run.record.data == (str(other),)
    assert open_run(url).record == run.record
    assert list(run.record.history[0].what) == ["train.temperature", "data"]
    again = prepared(url, other, train={"temperature": 0.3})
    assert [list(change.what) for change in again.record.history] == [
        ["train.temperature", "data"],
        ["train.temperature"],
    ]


def test_photographs_added_before_the_first_artifact_are_taken(url: str, data: Path) -> None:
    first = prepared(url, data).record
    (data / "new.png").write_bytes(encoded(photograph(9)))
    second = prepared(url, data).record
    assert second.photographs == 7
    assert second.pins != first.pins


def test_the_configs_own_data_is_used_and_the_command_lines_goes_first(url: str, data: Path, tmp_path: Path) -> None:
    placement = {"data": [str(data)]}
    assert prepared(url, None, placement=placement).record.data == (str(data),)
    other = make_photographs(tmp_path / "other", 6)
    assert prepared(f"{url}-2", other, placement=placement).record.data == (str(other),)


def test_relative_paths_are_kept_absolute(url: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    assert prepared(url, Path("data")).record.data == (str(data),)


def test_a_folder_with_an_equals_sign_is_a_folder(url: str, tmp_path: Path) -> None:
    """Tables partitioned by Hive name their folders so."""
    data = make_photographs(tmp_path / "split=train", 6)
    assert prepared(url, data).record.photographs == 6


def test_one_broken_photograph_does_not_stop_the_start(url: str, data: Path) -> None:
    (data / "0.png").write_bytes(encoded(photograph(width=40, height=40))[:300])
    assert prepared(url, data).record.photographs == 6


def test_start_weights_are_pinned_by_content(url: str, data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    first = prepared(url, data, network={"start": str(weights)}).record
    assert first.start == str(weights)
    moved = weights.rename(tmp_path / "moved.safetensors")
    moved_pins = prepared(f"{url}-2", data, network={"start": str(moved)}).record.pins
    assert moved_pins["start"] == first.pins["start"]
    moved.write_bytes(b"two")
    assert prepared(f"{url}-3", data, network={"start": str(moved)}).record.pins["start"] != first.pins["start"]


def bad(tmp_path: Path, name: str) -> tuple[Path | None, RunConfig]:
    """What cannot be started with: the folder and the config."""
    config = small_config()
    folder = tmp_path / name
    match name:
        case "missing":
            return folder, config
        case "empty" | "hidden" | "text":
            folder.mkdir()
            (folder / {"empty": "notes", "hidden": ".a.png", "text": "a.txt"}[name]).write_bytes(b"")
            return folder, config
        case "broken":
            folder.mkdir()
            for number in range(6):
                (folder / f"{number}.jpg").write_bytes(b"no photograph")
            return folder, config
        case "few":
            return make_photographs(folder, 3), config
        case "file":
            folder.write_bytes(b"")
            return folder, config
        case "nothing given":
            return None, config
        case "start":
            return make_photographs(folder, 6), small_config(network={"start": str(tmp_path / "none.pth")})
        case "start folder":
            return make_photographs(folder, 6), small_config(network={"start": str(tmp_path)})
        case _:
            raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", DataError, "missing: no such folder"),
        ("empty", DataError, "empty: no photographs here"),
        ("hidden", DataError, "hidden: no photographs here"),
        ("text", DataError, "text: no photographs here"),
        ("broken", DataError, "broken: none of 6 photographs can be read .*0.jpg"),
        ("few", DataError, r"few: 3 photographs do not fill a batch of 4: .*optimization\.batch_size=2$"),
        ("file", DataError, "file: this is a file"),
        ("nothing given", DataError, "--data"),
        ("start", ConfigError, r"network\.start .*none\.pth: no such file"),
        ("start folder", ConfigError, r"network\.start .*not a run"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    tmp_path: Path, url: str, name: str, error: type[CyborgsError], message: str
) -> None:
    folder, config = bad(tmp_path, name)
    before = snapshot(tmp_path)
    with pytest.raises(error, match=message) as caught:
        prepare_run(url, config, name="small", data=(str(folder),) if folder else ())
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before
    assert not Path(url).parent.exists(), "not even a folder"


@pytest.mark.parametrize("name", ["missing", "empty", "broken", "few", "start"])
def test_bad_input_leaves_an_existing_run_as_it_was(tmp_path: Path, url: str, data: Path, name: str) -> None:
    prepared(url, data)
    before = snapshot(Path(url))
    folder, config = bad(tmp_path, name)
    with pytest.raises(CyborgsError):
        prepare_run(url, config, name="small", data=(str(folder),) if folder else ())
    assert snapshot(Path(url)) == before


def test_the_batch_size_that_is_advised_is_one_that_is_accepted(tmp_path: Path, url: str) -> None:
    """One photograph cannot be a batch: the smallest is two."""
    data = make_photographs(tmp_path / "one", 1)
    with pytest.raises(DataError) as caught:
        prepared(url, data)
    assert "batch_size=1" not in str(caught.value)


def test_a_run_below_a_file_is_refused(tmp_path: Path, data: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="--run"):
        prepared(str(tmp_path / "file" / "run"), data)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_damaged_run_is_not_started_over(url: str, data: Path) -> None:
    prepared(url, data)
    (Path(url) / "run.json").write_text("{")
    shutil.rmtree(Path(url) / layout.RECORD_COPIES)
    with pytest.raises(RunError, match="damaged"):
        prepared(url, data)
    assert (Path(url) / "run.json").read_text() == "{"


def test_a_damaged_record_is_restored_and_told(url: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numerics that were pinned on another machine, and the history of changes."""
    committed(prepared(url, data, numerics={"threads": 7}))
    record = prepared(url, data, update=True, train={"temperature": 0.2}).record
    whole = snapshot(Path(url))
    (Path(url) / "run.json").write_bytes(whole["run.json"].replace(b'"threads": 7', b'"threads": 6'))
    capsys.readouterr()
    assert prepared(url, data, train={"temperature": 0.2}).record == record
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: run {url}: run.json cannot be read (it: ")
    assert line.endswith("restored from history/run-00001.json")
    assert snapshot(Path(url)) == whole
    prepared(url, data, train={"temperature": 0.2})
    assert capsys.readouterr().err == ""


def test_placement_that_is_not_what_was_written_is_told(
    url: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(url, data)
    file = Path(url) / "run.json"
    file.write_text(file.read_text().replace('"log_every_steps": 10', '"log_every_steps": 90'))
    capsys.readouterr()
    run = open_run(url)
    prepare_run(url, run.config, name="small")
    (line,) = capsys.readouterr().err.splitlines()
    assert "config.placement is not what was written (placement.log_every_steps 10 -> 90)" in line


def test_a_run_is_kept_under_the_name_of_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CYBORGS_STORAGE", raising=False)
    assert default_run("demo") == "runs/demo"
    monkeypatch.setenv("CYBORGS_STORAGE", "/data/runs/")
    assert default_run("my/street.yaml") == "/data/runs/street"


def test_another_runs_backbone_is_where_this_one_starts(url: str, data: Path) -> None:
    other = prepared(url, data)
    with pytest.raises(ConfigError, match="no trained weights yet"):
        prepared(f"{url}-2", data, network={"start": url})
    commit(other, "index-images")
    folder = Standings(other).all()[1].folder
    other.store.write(f"{folder}/model.safetensors", b"weights")
    commit(other, "warm-up")
    record = prepared(f"{url}-2", data, network={"start": url}).record
    assert record.start == f"{other.store.url}/{folder}/model.safetensors"
    with pytest.raises(ConfigError, match="resnet18.*resnet34"):
        prepared(f"{url}-3", data, network={"start": url, "architecture": "resnet34"})


def test_credentials_in_a_data_source_never_reach_the_record(tmp_path: Path) -> None:
    """Not even where --data overrides the config that names it."""
    data = make_photographs(tmp_path / "photographs", 4)
    config = small_config(placement={"data": ["s3://key-id:s3cret@bucket/data"]})
    with pytest.raises(RunError, match="credentials do not belong into a URL") as caught:
        prepare_run(str(tmp_path / "run"), config, name="small", data=(str(data),))
    assert "s3cret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_change_that_does_not_fit_leaves_the_run_as_it_was(
    url: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(prepared(url, data))
    before = snapshot(Path(url))
    monkeypatch.setattr(LocalStore, "free_bytes", lambda _: 1000)
    with pytest.raises(RunError, match="1 kB are free"):
        prepared(url, data, update=True, train={"temperature": 0.5})
    assert snapshot(Path(url)) == before


def test_other_settings_wait_while_somebody_makes_the_first_artifact(url: str, data: Path) -> None:
    run = prepared(url, data)
    before = open_run(url).record
    with run.store.lease(f"{Standings(run).all()[0].folder}/{layout.LEASE}"):
        with pytest.raises(RunError, match=r"process \d+ on .* is at work on index-images, with other settings"):
            prepared(url, data, seed=8)
        assert prepared(url, data).record == before, "the same command only waits"
    assert open_run(url).record == before
    assert prepared(url, data, seed=8).config.seed == 8


def test_credentials_in_a_protocols_data_never_reach_the_record(tmp_path: Path, url: str, data: Path) -> None:
    protocols = {"protocols": [{"protocol": "knn", "data": "s3://key:secret@bucket/x"}]}
    with pytest.raises(CyborgsError) as refused:
        prepared(url, data, evaluate=protocols)
    assert "secret" not in str(refused.value)
    assert not Path(url).exists()
    committed(prepared(url, data))
    for sources in (
        ["evaluate.protocols=[{protocol: knn, data: 's3://key:secret@bucket/x'}]"],
        ["placement.data=[s3://key:secret@bucket/x]"],
    ):
        with pytest.raises(CyborgsError):
            fork(url, str(tmp_path / "new"), sources)
    assert not (tmp_path / "new").exists()

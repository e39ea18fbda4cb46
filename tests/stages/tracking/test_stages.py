"""What trackers are told by real stages: all that is logged, each step once, and nothing of it can stop a stage."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.prepare import prepare_run
from schemas import extras
from schemas.errors import ConfigError
from schemas.loading import change_config
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.context import Context
from stages.execute import run_stage
from stages.tracking.trackers import Trackers
from storage import layout
from storage.artifacts import standing
from storage.garbage import find_garbage, remove
from storage.run import open_run
from storage.verification import verify_run
from tests.pipeline import prepare
from tests.stages.conftest import ONE_CYCLE
from tests.stages.tracking.reading import events, logged, offline

Make = Callable[..., Path]
NOT_REPEATED = {"warm-up/images_per_second"}
"""Follows the clock."""


@pytest.fixture
def indexed(tmp_path: Path, photographs: Path, tiny_config: Path) -> Make:
    """A run whose warm-up is next: 8 steps."""

    def make(*settings: str) -> Path:
        url = tmp_path / "run"
        prepare(url, tiny_config, photographs, *ONE_CYCLE, *settings)
        run_stage(StageRequest(run=str(url), stage="index-images"))
        return url

    return make


def warm_up(url: Path) -> None:
    assert run_stage(StageRequest(run=str(url), stage="warm-up")).computed


def die(url: Path, monkeypatch: pytest.MonkeyPatch, *, saved: int, at: int) -> None:
    """Let a warm-up save its last state at one step, and end without another word before it logs a later one."""
    save, record = Context.save_partial, Context.record

    def save_early(context: Context, name: str, data: bytes) -> None:
        if seen[-1] <= saved:
            save(context, name, data)

    def fail(context: Context, step: int, values: Mapping[str, float]) -> None:
        if step == at:
            raise RuntimeError("killed")
        seen.append(step)
        record(context, step, values)

    seen = [0]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Context, "save_partial", save_early)
        patch.setattr(Context, "record", fail)
        run_stage(StageRequest(run=str(url), stage="warm-up"))
    assert seen[-1] == at - 1
    assert standing(open_run(str(url)), "warm-up").state == "partial"


def assert_same(shown: dict[str, list[tuple[int, float]]], expected: dict[str, list[tuple[int, float]]]) -> None:
    """Every figure, every step once and in order, to the digits of the log."""
    assert shown.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points], name
        if name not in NOT_REPEATED:
            assert [value for _, value in shown[name]] == pytest.approx([value for _, value in points], rel=2e-5), name


def test_tensorboard_shows_what_is_logged_and_what_is_measured(undisturbed: Path) -> None:
    run = open_run(str(undisturbed))
    folder = undisturbed / layout.tracker_folder("tensorboard")
    for name, steps in (("warm-up", range(1, 9)), ("train cycle 0", range(9, 17)), ("evaluate cycle 0", range(16, 17))):
        expected = logged(undisturbed, name)
        assert {step for points in expected.values() for step, _ in points} == set(steps)
        assert_same(events(folder / name.split()[0]), expected)
    assert {"train/mask_loss", "train/epoch", "train/learning_rate"} <= logged(undisturbed, "train cycle 0").keys()
    metrics = json.loads((undisturbed / str(standing(run, "evaluate", 0).folder) / layout.METRICS).read_text())
    shown = events(folder / "evaluate")
    assert {name: points[0][1] for name, points in shown.items()} == pytest.approx(
        {f"evaluate/{name}": value for name, value in metrics.items()}, rel=1e-5
    )


def test_a_killed_stage_that_goes_on_shows_each_step_once(
    indexed: Make, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = indexed("placement.checkpoint_every_minutes=0.00001")
    die(url, monkeypatch, saved=3, at=7)
    warm_up(url)
    assert len(list((url / "logs/tensorboard/warm-up").iterdir())) == 2
    assert_same(events(url / "logs/tensorboard/warm-up"), logged(undisturbed, "warm-up"))


def test_what_is_made_again_is_not_shown_again_and_hides_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """The first cycle made again, after later ones: curves stay as they are."""
    url = Path(shutil.copytree(undisturbed, tmp_path / "run", symlinks=True))
    before = events(url / "logs/tensorboard/warm-up")
    assert run_stage(StageRequest(run=str(url), stage="warm-up", force=True)).computed
    assert events(url / "logs/tensorboard/warm-up") == before


def test_event_files_are_kept_and_go_with_their_artifacts(undisturbed: Path, tmp_path: Path) -> None:
    url = Path(shutil.copytree(undisturbed, tmp_path / "run", symlinks=True))
    folder = url / "logs/tensorboard"
    (folder / "train" / "notes.txt").write_text("mine")
    assert find_garbage(open_run(str(url))) == []
    assert all(not finding.damage and not finding.harmless for finding in verify_run(open_run(str(url))))
    config = change_config(open_run(str(url)).config, ["evaluate.images=4"])
    run = prepare_run(str(url), config, name="tiny", update=True)
    garbage = find_garbage(run)
    assert [path for entry in garbage for path in entry.paths if "tensorboard" in path] == [
        path.relative_to(url).as_posix() for path in (folder / "evaluate").iterdir()
    ]
    remove(run, garbage)
    assert not (folder / "evaluate").exists()
    assert {path.name for path in folder.iterdir()} == {"warm-up", "train"}
    assert (folder / "train" / "notes.txt").exists()


def test_a_tracker_that_cannot_write_costs_a_line(indexed: Make, capsys: pytest.CaptureFixture[str]) -> None:
    url = indexed()
    (url / "logs").mkdir(exist_ok=True)
    (url / "logs/tensorboard").write_text("in the way")
    capsys.readouterr()
    warm_up(url)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert line.startswith("warning: tracker tensorboard: ")
    assert line.endswith("; the stage goes on without it") and str(url / "logs/tensorboard") in line
    assert len(logged(url, "warm-up")["warm-up/vmf_loss"]) == 8


def test_a_missing_package_is_named_before_anything_is_done(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path / "run", tiny_config, photographs, "placement.trackers=[tensorboard, mlflow]")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"^placement.trackers mlflow: .*`pip install mlflow-skinny`") as caught:
        run_stage(StageRequest(run=str(tmp_path / "run"), stage="index-images"))
    assert len(str(caught.value).splitlines()) == 1
    assert standing(open_run(str(tmp_path / "run")), "index-images").state == "pending"


def test_wandb_offline_has_each_step_once_in_one_run(indexed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    url = indexed("placement.trackers=wandb", "placement.checkpoint_every_minutes=0.00001")
    die(url, monkeypatch, saved=3, at=7)
    warm_up(url)
    ids, curves = offline(url / "logs/wandb")
    assert len(ids) == 1
    assert_same(curves, logged(url, "warm-up"))
    sent = {path.name for path in (url / "logs/wandb").rglob("files/*")}
    assert sent == set(), "scalars alone"
    assert not (url / "logs/tensorboard").exists(), "it was not asked for"
    assert find_garbage(open_run(str(url))) == []


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_mlflow_keeps_all_stages_in_one_run(indexed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    url = indexed("placement.trackers=mlflow", "placement.tracking_project=street")
    warm_up(url)
    run = open_run(str(url))
    later = Trackers(run, find_step(run.config, "evaluate", 0), "0" * 20, told=-1)
    later.scalars(16, {"projection_std": 0.5})
    later.close()
    client = MlflowClient(tracking_uri=f"sqlite:///{url}/logs/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("street")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    curves = {
        name: [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }
    assert curves.pop("evaluate/projection_std") == [(16, 0.5)]
    assert_same(curves, logged(url, "warm-up"))


ALONE = """
import sys
outside = []
def look(event, arguments):
    connects = event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple)
    if connects or event == "socket.getaddrinfo":
        outside.append((event, arguments[1:]))
sys.addaudithook(look)
from schemas.stages import StageRequest
from stages.execute import run_stage
for stage in ("index-images", "warm-up"):
    assert run_stage(StageRequest(run=sys.argv[1], stage=stage)).computed
assert outside == [], outside
assert not {"wandb", "mlflow"} & set(sys.modules)
"""


def test_a_run_that_names_no_service_contacts_none(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, "schedule.epochs=4")
    done = subprocess.run([sys.executable, "-c", ALONE, str(url)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert events(url / "logs/tensorboard/warm-up"), "it was tracked all the same"

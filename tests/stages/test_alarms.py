"""A run that pauses at an alarm of the learning monitor, once, and goes on to the same end."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from torch.optim import Optimizer

from cli.show import print_status
from cyborgs.optimization.optimizers import set_learning_rate
from cyborgs.training import state
from flows import stage as stage_flow
from flows.launchers import deployment, inline, process
from flows.launching import run_step
from flows.prepare import prepare_run
from flows.watch import Watch
from schemas.errors import EXIT_PAUSED, PausedError, PreemptedError
from schemas.loading import change_config
from schemas.plan import find_step
from schemas.stages import StageRequest, StageResult
from stages import epochs, execute
from stages.execute import run_stage
from stages.metrics_log import read_metrics
from stages.report.data import report_data
from storage import layout
from storage.alarms import alarms_noted, note_alarms, untold_alarm
from storage.artifacts import Standing, standing
from storage.run import open_run
from tests.pipeline import assert_same_tensors, prepare

PAUSING = "placement.pause_on_alarm=true"
ORPHANED = (
    "schedule.epochs=6",
    "schedule.warmup_epochs=0",
    "schedule.bootstrap_every_epochs=0",
    "augmentation.crop_size=32",
    "augmentation.crop_area=[0.0005, 0.001]",
    "masks.clusters=256",
    "seed=1",
)
"""Two tiny cuts of a photograph have hardly ever a region in common: at step 20 of 24 an alarm sounds."""
NAMED = r"orphans: orphans is \S+ at step 20, .*; the same command goes on$"
ROOT = Path(__file__).parents[2]


def trained(url: Path) -> Standing:
    return standing(open_run(str(url)), "train", 0)


def train(url: Path) -> StageResult:
    """As the flow has it done."""
    run = open_run(str(url))
    request = StageRequest(run=str(url), stage="train", cycle=0)
    return run_step(request, Watch(run, find_step(run.config, "train", 0)))


def at_the_masks(url: Path, config: Path, photographs: Path, *settings: str) -> Path:
    run = prepare(url, config, photographs, *settings)
    for stage, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0)):
        request = StageRequest(run=str(url), stage=stage, cycle=cycle)  # type: ignore[arg-type]
        run_step(request, Watch(run, find_step(run.config, request.stage, cycle)))
    return url


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """Tests copy it."""
    return at_the_masks(tmp_path_factory.mktemp("untrained") / "run", tiny_config, photographs, *ORPHANED)


@pytest.fixture(scope="module")
def never_paused(tmp_path_factory: pytest.TempPathFactory, untrained: Path) -> Path:
    """The same run, trained without a pause: the alarm warns."""
    url = copied(untrained, tmp_path_factory.mktemp("trained"))
    assert train(url).computed
    found = trained(url).manifest
    assert found is not None
    assert [words.partition(":")[0] for words in found.provenance.warnings] == ["orphans"]
    return url


def copied(url: Path, folder: Path, *settings: str) -> Path:
    shutil.copytree(url, folder / "run", symlinks=True)
    run = open_run(str(folder / "run"))
    if settings:
        prepare_run(run.store.url, change_config(run.config, list(settings)), name="tiny")
    return folder / "run"


def assert_equal_ends(url: Path, never_paused: Path) -> None:
    one, other = trained(url), trained(never_paused)
    assert one.manifest is not None and other.manifest is not None
    assert one.manifest.content == other.manifest.content
    assert one.manifest.summary == other.manifest.summary
    assert one.manifest.provenance.warnings == other.manifest.provenance.warnings
    assert_same_tensors(url / str(one.folder), never_paused / str(other.folder))
    assert one.key is not None
    steps = [line["step"] for line in read_metrics(open_run(str(url)), one.step, one.key)]
    assert steps == list(range(1, one.step.last_epoch * 4 + 1)), "not gone on from the step of the alarm"


@pytest.mark.parametrize("launcher", ["inline", pytest.param("process", marks=pytest.mark.slow)])
def test_it_pauses_once_and_goes_on_to_the_same_end(
    tmp_path: Path, untrained: Path, never_paused: Path, launcher: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url = copied(untrained, tmp_path, PAUSING, f"placement.launcher={launcher}")
    with pytest.raises(PausedError, match=rf"^paused in train cycle 0 \(placement.pause_on_alarm\): {NAMED}") as caught:
        train(url)
    assert caught.value.exit_code == EXIT_PAUSED
    assert "\n" not in str(caught.value)
    assert trained(url).state == "partial"
    shown = report_data(open_run(str(url)), with_pictures=False)
    assert {each["name"]: each["state"] for each in shown["stages"]}["train cycle 0"] == "paused"
    (warning,) = shown["warnings"]
    assert warning["stage"] == "train cycle 0"
    assert re.match(r"paused at orphans: orphans is \S+ at step 20, .*; the same command goes on$", warning["text"])
    print_status(open_run(str(url)))
    assert "paused at orphans: orphans is " in capfd.readouterr().out
    assert train(url).computed
    assert "warning" not in capfd.readouterr().err, "said by the attempt that paused"
    assert_equal_ends(url, never_paused)


class KilledError(Exception):
    """In place of a SIGKILL."""


def killed_at(monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, request: StageRequest) -> None:
    """Run a stage that ends where it calls a function."""

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(module, function, killed)
        run_stage(request)


def test_an_alarm_is_in_the_report_before_the_artifact_is_there(
    tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No pause: the stage is killed at its end, before it commits."""
    url = copied(untrained, tmp_path)

    killed_at(monkeypatch, execute, "commit_artifact", StageRequest(run=str(url), stage="train", cycle=0))
    assert "warning: orphans: orphans is " in capfd.readouterr().err
    (warning,) = report_data(open_run(str(url)), with_pictures=False)["warnings"]
    assert warning["stage"] == "train cycle 0"
    assert re.match(r"orphans: orphans is \S+ at step 20, ", warning["text"])


@pytest.mark.slow
def test_an_alarm_at_the_last_step_pauses_before_the_artifact_is_there(
    tmp_path: Path, untrained: Path, never_paused: Path
) -> None:
    """The stage has 20 steps; what is left when it goes on is to write the artifact."""
    ends = []
    for name, settings in (("one", (PAUSING,)), ("two", ())):
        (tmp_path / name).mkdir()
        url = copied(untrained, tmp_path / name)
        config = change_config(open_run(str(url)).config, ["schedule.epochs=5", *settings])
        prepare_run(str(url), config, name="tiny", update=True)
        run_all_but_training(url)
        ends.append(url)
    with pytest.raises(PausedError, match="orphans"):
        train(ends[0])
    assert trained(ends[0]).state == "partial"
    assert train(ends[0]).computed
    assert train(ends[1]).computed
    assert_equal_ends(*ends)


def run_all_but_training(url: Path) -> None:
    run = open_run(str(url))
    for stage, cycle in (("warm-up", None), ("bootstrap-masks", 0)):
        request = StageRequest(run=str(url), stage=stage, cycle=cycle)  # type: ignore[arg-type]
        run_step(request, Watch(run, find_step(run.config, request.stage, cycle)))


def test_who_was_killed_before_he_could_tell_tells_when_started_again(
    tmp_path: Path, untrained: Path, never_paused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the flow, after the stage has ended; once the stage, between the state and the note."""
    url = copied(untrained, tmp_path, PAUSING)

    request = StageRequest(run=str(url), stage="train", cycle=0)
    killed_at(monkeypatch, epochs, "note_alarms", request)
    assert untold_alarm(open_run(str(url)), trained(url).step) is None
    with pytest.raises(PreemptedError, match="^train cycle 0: paused at an alarm; .* the same command goes on$"):
        run_stage(request)
    with pytest.raises(PausedError, match=NAMED):
        train(url)
    assert train(url).computed
    assert_equal_ends(url, never_paused)


def test_a_pause_that_was_called_off_is_none(tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = copied(untrained, tmp_path, PAUSING)

    def launch(request: StageRequest, watch: Watch) -> None:
        paused(url)
        prepare_run(str(url), change_config(watch.run.config, ["placement.pause_on_alarm=false"]), name="tiny")
        raise PreemptedError("train cycle 0: stopped")

    monkeypatch.setattr(inline, "launch", launch)
    for _ in range(2):  # and told it is not either, when started again
        with pytest.raises(PreemptedError):
            train(url)


DIVERGING = (
    "schedule.epochs=16",
    "schedule.warmup_epochs=0",
    "schedule.bootstrap_every_epochs=0",
    "augmentation.crop_size=32",
    "optimization.learning_rate=0.02",
    "train.temperature=0.002",
    "train.vmf_every_epochs=0",
)
"""A cold contrast: what the projections are like decides the loss, which batch-norm would keep within bounds else."""


def test_a_diverging_loss_pauses_a_run_that_goes_on(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate a thousand times as high from step 41 on: the loss, which had fallen, is what it was at the start."""

    def rising(optimizer: Optimizer, rate: float) -> None:
        taken = optimizer.state_dict()["state"].get(0, {"step": 0})["step"]
        set_learning_rate(optimizer, rate * (1000 if taken >= 40 else 1))

    monkeypatch.setattr(state, "set_learning_rate", rising)
    url = at_the_masks(tmp_path / "run", tiny_config, photographs, *DIVERGING, PAUSING)
    with pytest.raises(PausedError, match=r"divergence: mask_loss is \S+ on average .*try a lower .*learning_rate"):
        train(url)
    assert train(url).computed
    found = trained(url).manifest
    assert found is not None
    assert [words.partition(":")[0] for words in found.provenance.warnings] == ["divergence"]


def by_hand(url: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "stages", "train", "--run", str(url), "--cycle", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stage_by_hand(
    tmp_path: Path, untrained: Path, never_paused: Path, photographs: Path, tiny_config: Path, processes: int
) -> None:
    """It says what the alarm means and ends as paused; whoever goes on, by hand or not, is not stopped again."""
    url = copied(untrained, tmp_path, PAUSING)
    if processes == 2:
        several = (*ORPHANED, "numerics.world_size=2", "placement.launcher=process")
        url = at_the_masks(tmp_path / "two", tiny_config, photographs, *several, PAUSING)
        never_paused = copied(url, tmp_path / "two-never", "placement.pause_on_alarm=false")
        train(never_paused)
    ended = by_hand(url)
    assert ended.returncode == EXIT_PAUSED, ended.stderr
    *_, warning, last = ended.stderr.strip().splitlines()
    assert warning.startswith("warning: orphans: orphans is ")
    assert last == "train cycle 0: paused at an alarm; what was done is saved, the same command goes on"
    assert trained(url).state == "partial"
    assert train(url).computed
    assert_equal_ends(url, never_paused)


def paused(url: Path) -> StageRequest:
    """What a stage leaves behind that paused in its container."""
    run, found = open_run(str(url)), trained(url)
    assert found.key is not None
    note_alarms(run, found.step, found.key, names=frozenset({"orphans"}), words="orphans: many")
    return StageRequest(run=str(url), stage="train", cycle=0)


def test_a_container_that_paused_is_not_started_again(
    tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = copied(untrained, tmp_path, PAUSING, "placement.launcher=deployment")
    attempts = []

    def attempt(*_: object) -> deployment._End:
        attempts.append(paused(url))
        return deployment._End("preempted")

    monkeypatch.setattr(deployment, "_attempt", attempt)
    with pytest.raises(PausedError, match=r"paused in train cycle 0 .*orphans: many; the same command goes on"):
        train(url)
    assert len(attempts) == 1
    found = trained(url)
    assert found.key is not None
    assert alarms_noted(open_run(str(url)), found.step, found.key) == {"orphans"}


@pytest.mark.parametrize("parent", [None, "a flow"])
def test_a_flow_of_one_stage_ends_as_paused(
    tmp_path: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch, parent: str | None
) -> None:
    """Where another flow waits for it, that one tells the person."""
    url = copied(untrained, tmp_path, PAUSING)

    def launch(request: StageRequest, watch: Watch, *, grace: float) -> None:
        paused(url)
        raise PreemptedError("train cycle 0: stopped")

    monkeypatch.setattr(process, "launch", launch)
    monkeypatch.setattr(stage_flow, "deployment", SimpleNamespace(name="train", id="one"))
    monkeypatch.setattr(stage_flow, "flow_run", SimpleNamespace(parent_flow_run_id=parent))
    run = open_run(str(url))
    monkeypatch.setattr(stage_flow, "watch_on_page", lambda _: Watch(run, trained(url).step))
    ended = stage_flow.cyborgs_stage.fn(run=str(url), cycle=0)
    assert ended is not None
    assert (ended.name, ended.is_completed()) == ("Paused", True)
    assert ended.message == "orphans: many; run it again to go on"
    assert untold_alarm(run, trained(url).step) == (None if parent is None else "orphans: many")
    assert run.store.size(layout.alarm_note(trained(url).step)) is not None

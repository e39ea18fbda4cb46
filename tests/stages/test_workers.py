"""A stage in several processes: what it leaves, how it stops, and what it says when one of them fails."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.errors import EXIT_PREEMPTED, ConfigError
from schemas.stages import StageRequest
from stages.execute import follow_stage, processes_to_start, run_stage
from stages.team import MEETING_FILE, Team
from stages.workers import run_workers
from storage import layout
from storage.artifacts import Standing, Standings
from storage.run import open_run
from tests.conftest import draw_scenes
from tests.pipeline import assert_same_masks, assert_same_results, prepare, run_all

ROOT = Path(__file__).parents[2]
TWO = (
    "numerics.world_size=2",
    "placement.launcher=process",
    "placement.checkpoint_every_minutes=0.00001",
    "schedule.epochs=4",
)
"""Two processes, and one cycle."""
TRAIN = "train cycle 0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run of two processes a stage, undisturbed."""
    url = tmp_path_factory.mktemp("run") / "undisturbed"
    prepare(url, tiny_config, photographs, *TWO)
    run_all(url)
    return url


@pytest.fixture
def untrained(tmp_path: Path, finished: Path) -> Path:
    """The same run where its training has yet to begin."""
    url = tmp_path / "untrained"
    shutil.copytree(finished, url, symlinks=True)
    for found in Standings(open_run(str(finished))).all()[3:]:
        shutil.rmtree(url / str(found.folder))
    return url


def test_the_process_that_leads_is_the_one_that_is_tracked(finished: Path) -> None:
    for stage in ("warm-up", "train", "evaluate"):
        assert len(list((finished / layout.tracker_folder("tensorboard") / stage).iterdir())) == 1, stage


def _standing(url: Path, name: str) -> Standing:
    return Standings(open_run(str(url))).input(name)


def _start(request: StageRequest) -> "subprocess.Popen[str]":
    """The stage as a flow would start it."""
    return subprocess.Popen(request.command(), stderr=subprocess.PIPE, text=True, cwd=ROOT)


def _training(url: Path) -> StageRequest:
    return StageRequest(run=str(url), stage="train", cycle=0)


def _await_first_save(url: Path, stage: "subprocess.Popen[str]") -> None:
    state = url / str(_standing(url, TRAIN).folder) / layout.PARTIAL / "state"
    deadline = time.monotonic() + 120
    while not state.exists():
        assert stage.poll() is None, "it has ended before it saved"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _process_of_rank(rank: int, parent: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, environment = (folder / "stat").read_text(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(stat.rsplit(")", 1)[1].split()[1]) == parent and b"\0RANK=%d\0" % rank in environment:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize("stopped", ["by SIGTERM", "one process killed"])
def test_stopped_half_way_it_goes_on_exactly(finished: Path, untrained: Path, stopped: str) -> None:
    stage = _start(_training(untrained))
    _await_first_save(untrained, stage)
    if stopped == "by SIGTERM":
        stage.send_signal(signal.SIGTERM)
    else:
        os.kill(_process_of_rank(1, stage.pid), signal.SIGKILL)
    _, words = stage.communicate(timeout=120)
    assert stage.returncode == (EXIT_PREEMPTED if stopped == "by SIGTERM" else 128 + signal.SIGKILL), words
    assert "Traceback" not in words
    assert _standing(untrained, TRAIN).state == "partial"
    run_all(untrained)
    assert_same_results(finished, untrained)


def test_no_process_outlives_its_parent(untrained: Path) -> None:
    """The starter is killed and cannot tell anybody: the others save and end by themselves."""
    stage = _start(_training(untrained))
    _await_first_save(untrained, stage)
    workers = [_process_of_rank(rank, stage.pid) for rank in (0, 1)]
    stage.kill()
    stage.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)


def test_what_one_process_cannot_do_is_said_in_one_line(tmp_path: Path, tiny_config: Path) -> None:
    """A photograph is gone, which one of the processes comes upon."""
    photographs, url = draw_scenes(tmp_path / "photographs", 18), tmp_path / "run"
    prepare(url, tiny_config, photographs, *TWO)
    for name in ("index-images", "warm-up", "bootstrap-masks"):
        cycle = 0 if name == "bootstrap-masks" else None
        assert subprocess.run(StageRequest(run=str(url), stage=name, cycle=cycle).command(), cwd=ROOT).returncode == 0  # type: ignore[arg-type]
    (photographs / "07.png").unlink()
    stage = _start(_training(url))
    _, words = stage.communicate(timeout=120)
    assert stage.returncode == 2, words
    said = [line for line in words.splitlines() if "07.png" in line]
    assert said, words
    assert "Traceback" not in words


def _labels_made_by(processes: int, source: Path, url: Path) -> Path:
    shutil.copytree(source, url, symlinks=True)
    request = StageRequest(run=str(url), stage="bootstrap-masks", cycle=0, force=True)
    if processes == 1:
        assert run_stage(request).computed
    else:
        assert run_workers(request, processes) == 0
    return url / str(_standing(url, "bootstrap-masks cycle 0").folder) / layout.MASKS


def test_masks_of_one_two_and_three_processes_are_equal(tmp_path: Path, tiny_config: Path) -> None:
    """Five shards: each process makes its own, and the store is the same."""
    url = tmp_path / "run"
    prepare(url, tiny_config, draw_scenes(tmp_path / "photographs", 66), "schedule.warmup_epochs=1")
    for name in ("index-images", "warm-up"):
        run_stage(StageRequest(run=str(url), stage=name))  # type: ignore[arg-type]
    one, two, three = (_labels_made_by(count, url, tmp_path / f"{count} processes") for count in (1, 2, 3))
    assert_same_masks(one, two)
    assert_same_masks(one, three)


def test_torchrun_on_two_machines(finished: Path, untrained: Path) -> None:
    """Two agents that find each other by address, as on two machines; here they share one, and its storage."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1",
        "-m", "--", "stages", "train", "--run", str(untrained), "--cycle", "0",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != MEETING_FILE}
    with ExitStack() as started:
        agents = [
            started.enter_context(
                subprocess.Popen(
                    [*command[:3], "--node-rank", str(number), *command[3:]],
                    env=environment | {"PYTHONSAFEPATH": "1"},
                    cwd=ROOT,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for number in (0, 1)
        ]
        for agent in agents:
            started.callback(agent.kill)
        for agent in agents:
            _, words = agent.communicate(timeout=180)
            assert agent.returncode == 0, words
    assert _standing(untrained, TRAIN).state == "done"
    run_all(untrained)
    assert_same_results(finished, untrained)


def test_started_in_another_number_of_processes(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"started in 3 processes.*world_size 2"):
        processes_to_start(_training(finished), Team(rank=1, size=3))


def test_what_is_done_needs_no_processes(finished: Path) -> None:
    assert processes_to_start(_training(finished), Team()) == 1
    assert processes_to_start(_training(finished).model_copy(update={"force": True}), Team()) == 2


def test_a_stage_of_one_process_is_left_to_the_first(finished: Path) -> None:
    """Under torchrun the others come back at once, and find no store to ask."""
    follow_stage(StageRequest(run=str(finished), stage="evaluate", cycle=0), Team(rank=1, size=2))

"""The command as people run it: real processes, Prefect's embedded server, signals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.artifacts import Standings
from storage.run import open_run
from tests.pipeline import assert_same_results, prepare, run_all

CYBORGS = [str(Path(sys.executable).with_name("cyborgs"))]
SAVE_OFTEN = "placement.checkpoint_every_minutes=1.0e-6"
"""A partial state after every step, so that there is one to be killed at."""
STAGES = [sys.executable, "-P", "-m", "stages"]


def run(arguments: list[str], *, cwd: Path | None = None, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def listen_to_interrupts() -> None:
    """A shell's background job, as these tests may be, ignores Ctrl-C, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_run_goes_on_and_equals_an_undisturbed_one(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    """Process launcher with loader workers against stages in this process; Ctrl-C once; a decoy in the way."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("raise SystemExit('the folder of the user shadows ours')")
    command = [
        *CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", "mine",
        "--set", "placement.loader_workers=2",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*command, SAVE_OFTEN],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_interrupts,
    )
    wait_for(lambda: any((tmp_path / "mine" / "warm-up").glob("*/partial/*")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the group
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-2:] == [
        "warm-up: stopped; what was done is saved",
        "warm-up: stopped; the same command goes on from there",
    ]
    assert "Traceback" not in errors, errors
    assert [f.state for f in Standings(open_run(str(tmp_path / "mine"))).all()][:2] == ["done", "partial"]

    resumed = run(command, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "warm-up: going on from where it stopped" in resumed.stderr
    assert f"report:   {tmp_path}/mine/report/index.html" in resumed.stdout
    assert "images/s" in resumed.stderr
    assert "loss" in resumed.stderr

    started = time.monotonic()
    again = run(command, cwd=tmp_path)
    assert time.monotonic() - started < 15
    assert again.returncode == 0
    assert "nothing to do" in again.stdout

    prepare(tmp_path / "inline", tiny_config, photographs)
    run_all(tmp_path / "inline")
    assert_same_results(tmp_path / "inline", tmp_path / "mine")

    refused = run([*command, "train.temperature=0.2"], cwd=tmp_path)
    assert refused.returncode == 2
    assert "train.temperature 0.1 -> 0.2" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_killed_once_in_every_stage_ends_the_same(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    """SIGKILL as soon as there is partial work; stages too short to have any, as soon as they hold the lease."""
    url = tmp_path / "killed"
    opened = prepare(url, tiny_config, photographs, SAVE_OFTEN)
    prepare(tmp_path / "undisturbed", tiny_config, photographs)
    run_all(tmp_path / "undisturbed")
    for found in Standings(open_run(str(tmp_path / "undisturbed"))).all():
        cycle = [] if found.step.cycle is None else ["--cycle", str(found.step.cycle)]
        command = [*STAGES, found.step.stage, "--run", opened.store.url, *cycle]
        folder = url / str(found.folder)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: any(folder.glob("partial/*")) or (folder / "lease").exists(), process)  # noqa: B023
        if found.step.stage in ("warm-up", "train"):
            wait_for(lambda: any(folder.glob("partial/*")), process)  # noqa: B023
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{found.step.name} ended before it could be killed"
        finished = run(command)
        assert finished.returncode == 0, finished.stderr
    assert_same_results(tmp_path / "undisturbed", url)


def test_stage_stops_at_sigterm_with_75(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    prepare(tmp_path / "run", tiny_config, photographs, SAVE_OFTEN)
    request = ["--run", str(tmp_path / "run")]
    assert run([*STAGES, "index-images", *request]).returncode == 0
    process = subprocess.Popen([*STAGES, "warm-up", *request], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any((tmp_path / "run" / "warm-up").glob("*/partial/*")), process)
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 75, errors
    assert errors.strip().endswith("warm-up: stopped; what was done is saved")


def test_stage_ends_when_its_parent_is_killed(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    """No orphan stays at work: the stage of a killed command saves and ends by itself, and Prefect's server ends."""
    command = [*CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--set", "schedule.epochs=200", SAVE_OFTEN],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    train = tmp_path / "run" / "cycle-000" / "train"
    wait_for(lambda: any(train.glob("*/partial/*")), process)
    running = re.compile(r"train cycle 0 +running .*step \d+.*loss .*\(process \d+ on")
    wait_for(lambda: running.search(run([*CYBORGS, "status", str(tmp_path / "run")]).stdout), process, seconds=30)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    process.kill()
    process.wait()
    process.stderr.close()
    wait_for(lambda: not any(train.glob("*/lease")), None, seconds=30)
    assert any(train.glob("*/partial/*"))
    stopped = run([*CYBORGS, "status", str(tmp_path / "run")]).stdout
    assert re.search(r"train cycle 0 +partial .*stopped in epoch \d+, goes on from its last save", stopped), stopped
    assert len(children) >= 2, "a stage and Prefect's server"
    wait_for(lambda: not any(lives(child) for child in children), None, seconds=30)


def lives(process: int) -> bool:
    """Whether a process is there, and not only its entry that nobody asked about."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def test_terminated_run_stops_with_75_and_leaves_nobody_behind(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    command = [*CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--set", SAVE_OFTEN], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: any((tmp_path / "run" / "warm-up").glob("*/partial/*")), process)
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 75, errors
    assert errors.strip().splitlines()[-1] == "warm-up: stopped; the same command goes on from there"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "coco"], ["status", "RUN"]])
def test_answers_at_once(arguments: list[str], tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    prepare(tmp_path / "run", tiny_config, photographs)
    command = [*CYBORGS, *(str(tmp_path / "run") if word == "RUN" else word for word in arguments)]
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        assert run(command).returncode == 0
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.5


def wait_for(condition: "object", process: "subprocess.Popen[str] | None", *, seconds: float = 120) -> None:
    """Poll until the condition holds; a process that ended before fails the test with what it said."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            said = process.stderr.read() if process.stderr else ""
            pytest.fail(f"ended with {process.returncode} before it could be disturbed:\n{said}")
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


def test_data_given_goes_before_the_data_of_the_config(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    """From the command through the flow: photographs of the config are not taken in place of those asked for."""
    config = tmp_path / "with-data.yaml"
    config.write_text(tiny_config.read_text().replace("placement: {", "placement: {data: [demo-tiles], "))
    command = [*CYBORGS, "run", str(config), "--data", str(photographs), "--run", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: any((tmp_path / "run" / "index").glob("*/manifest.json")), process)
    process.terminate()
    process.communicate(timeout=60)
    run_now = open_run(str(tmp_path / "run"))
    assert run_now.record.data == (str(photographs),)
    assert Standings(run_now).all()[0].state == "done"

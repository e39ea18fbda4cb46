"""All that can befall a stage, its container, worker, server and machine, on a real engine."""

import re
import time
from pathlib import Path

import pytest

from tests.containers.stack import Stack, request, wait_for
from tests.pipeline import assert_same_results

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def answers() -> bool:
    """The API of a server that is coming up refuses connections at first."""
    try:
        return bool(request("GET", "/health"))
    except OSError:
        return False


def test_a_killed_container_is_reported_and_the_run_goes_on(stack: Stack, undisturbed: Path) -> None:
    flow = stack.start_full("killed", *stack.SETTINGS, stack.SAVE_OFTEN, "placement.retries=0")
    stack.docker("kill", stack.wait_for_save("killed"))
    ended = stack.finish(flow)
    assert ended.state == "Failed"
    assert re.search(r"train cycle 0: crashed: .*137.*not started again \(placement.retries 0\)", ended.message), (
        ended.message
    )
    assert not any((stack.storage / "killed/cycle-000/train").glob("*/manifest.json"))
    resumed = stack.finish(stack.start("cyborgs/full", run="killed"))
    assert resumed.state == "Completed", resumed.log
    (second, _) = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of killed")
    assert "train cycle 0: going on from where it stopped" in stack.log(second.id)
    assert_same_results(undisturbed, stack.storage / "killed")


def test_killed_and_preempted_containers_are_started_again_by_policy(stack: Stack, undisturbed: Path) -> None:
    """First killed, then stopped as a machine that is taken away stops it: it saves and goes on elsewhere."""
    flow = stack.start_full("retried", *stack.SETTINGS, stack.SAVE_OFTEN)
    killed = stack.wait_for_save("retried")
    stack.docker("kill", killed)

    def second() -> list[str]:
        running = stack.containers("train-cycle-0-of-retried", "--filter", "status=running")
        return [name for name in running if name != killed]

    wait_for(second, "the second container of train cycle 0")
    stage = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of retried")[0].id
    wait_for(lambda: "going on from where it stopped" in stack.log(stage), "the stage going on", seconds=60)
    stack.docker("stop", "--time", "30", second()[0])
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert_same_results(undisturbed, stack.storage / "retried")
    assert re.search(r"train cycle 0: crashed: .*; starting it again", ended.log), ended.log
    # Stopped, it saved and left its slot; Prefect scheduled the same flow run anew, in a third container.
    assert len(set(stack.containers("train-cycle-0-of-retried", "--all"))) == 3
    assert "stopped; what was done is saved" in stack.log(stage), stack.log(stage)


def test_a_lost_stage_is_given_up_and_started_again(stack: Stack) -> None:
    """Worker and container die together, nobody tells Prefect: its state stays Running, the heartbeat stands still."""
    one_cycle = ["schedule.epochs=16", "schedule.bootstrap_every_epochs=0", "placement.lost_after_minutes=0.4"]
    flow = stack.start_full("lost", *stack.SETTINGS, stack.SAVE_OFTEN, *one_cycle)
    container = stack.wait_for_save("lost")
    stack.compose("kill", "worker")
    stack.docker("kill", container)
    wait_for(lambda: "train cycle 0: lost" in stack.log(flow), "the flow giving its stage up")
    stack.compose("up", "--detach", "worker")
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert "train cycle 0: lost: no sign of life from its container for 0.4 min; starting it again" in ended.log
    given_up = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of lost")[-1]
    assert (given_up.state, given_up.message) == ("Crashed", "no sign of life from its container")


STAND_STILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if b"\\0-m\\0stages\\0" in (folder / "cmdline").read_bytes():
        os.kill(int(folder.name), signal.SIGSTOP)
"""


def test_a_stage_that_hangs_is_told_to_stop_and_started_again(stack: Stack) -> None:
    """Its container lives and its worker too, but the stage stands still, as over a network disk that is gone."""
    one_cycle = ["schedule.epochs=16", "schedule.bootstrap_every_epochs=0", "placement.lost_after_minutes=0.4"]
    flow = stack.start_full("hung", *stack.SETTINGS, stack.SAVE_OFTEN, *one_cycle)
    container = stack.wait_for_save("hung")
    stack.docker("exec", container, "python", "-c", STAND_STILL)
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert "train cycle 0: lost: no sign of life from its container for 0.4 min; starting it again" in ended.log
    assert not stack.containers(container, "--filter", "status=running")


def test_after_a_power_cut_the_same_command_goes_on(stack: Stack, undisturbed: Path) -> None:
    """Flow, stage and worker die together; nothing is left that could tell Prefect, and the only slot is held."""
    flow = stack.start_full("cut", *stack.SETTINGS, stack.SAVE_OFTEN)
    container = stack.wait_for_save("cut")
    stack.compose("kill", "worker")
    (parent,) = stack.containers("", "--filter", f"label=io.prefect.flow-run-id={flow}")
    stack.docker("kill", parent, container)
    assert stack.read(flow).state == "Running", "somebody knows: this test shows nothing"
    stack.compose("up", "--detach", "worker")
    ended = stack.finish(flow, seconds=60)
    assert (ended.state, ended.message) == ("Crashed", "its container is gone")
    resumed = stack.finish(stack.start("cyborgs/full", run="cut"))
    assert resumed.state == "Completed", resumed.log
    assert_same_results(undisturbed, stack.storage / "cut")


def test_a_stage_that_somebody_cancels_ends_the_flow_and_the_same_command_goes_on(stack: Stack) -> None:
    one_cycle = ["schedule.epochs=16", "schedule.bootstrap_every_epochs=0"]
    flow = stack.start_full("called-off", *stack.SETTINGS, stack.SAVE_OFTEN, *one_cycle)
    stack.wait_for_save("called-off")
    stage = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of called-off")[0]
    stack.prefect("flow-run", "cancel", stage.id)
    ended = stack.finish(flow)
    assert ended.state == "Failed", ended.log
    assert ended.message.startswith("train cycle 0: cancelled: "), ended.message
    assert "starting it again" not in ended.log
    resumed = stack.finish(stack.start("cyborgs/full", run="called-off"))
    assert resumed.state == "Completed", resumed.log


def test_a_stage_that_fails_by_itself_is_not_started_again(stack: Stack) -> None:
    flow = stack.start_full("no-gpu", *stack.SETTINGS, "placement.device=cuda:7")
    ended = stack.finish(flow)
    assert ended.state == "Failed", ended.log
    assert ended.message.startswith("warm-up: failed: placement.device cuda:7: this machine has "), ended.message
    assert len(stack.flow_runs("cyborgs-stage/warm-up", like="of no-gpu")) == 1


def test_a_cancelled_flow_stops_its_container_which_saves(stack: Stack) -> None:
    flow = stack.start_full("cancelled", *stack.SETTINGS, stack.SAVE_OFTEN, "schedule.epochs=400")
    container = stack.wait_for_save("cancelled")
    stack.prefect("flow-run", "cancel", flow)
    ended = stack.finish(flow, seconds=90)
    assert ended.state == "Cancelled", ended.message
    wait_for(lambda: not stack.containers(container, "--filter", "status=running"), "the end of the container")
    stage = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of cancelled")[0]
    assert stage.state == "Cancelled"
    assert "train cycle 0: stopped; what was done is saved" in stack.log(stage.id)
    assert "train cycle 0: its flow run has ended as Cancelled" in stack.log(flow)


def test_the_server_may_be_away_for_half_a_minute(stack: Stack, undisturbed: Path) -> None:
    flow = stack.start_full("outage", *stack.SETTINGS, stack.SAVE_OFTEN)
    stack.wait_for_save("outage")
    stack.compose("stop", "server")
    time.sleep(30)
    stack.compose("start", "server")
    wait_for(answers, "the server", seconds=90)
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert "starting it again" not in ended.log
    assert_same_results(undisturbed, stack.storage / "outage")

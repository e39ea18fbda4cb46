"""All that can befall a stage, its container, worker, server and machine, on a real engine.

A flow takes a minute or two here, most of it containers that start: what goes well together shares one.
"""

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


def start(stack: Stack, name: str, *settings: str) -> str:
    """A flow of one cycle that saves every few seconds."""
    return stack.start_full(name, *stack.SETTINGS, *stack.ONE_CYCLE, stack.SAVE_OFTEN, *settings)


@pytest.mark.many
def test_a_killed_container_is_reported_and_the_run_goes_on_without_a_server(
    stack: Stack, undisturbed_cycle: Path
) -> None:
    """The container is killed in the first flow, the server is away for half a minute in the second."""
    flow = start(stack, "killed", "placement.retries=0")
    stack.docker("kill", stack.wait_for_save(flow, "killed"))
    ended = stack.finish(flow)
    assert ended.state == "Failed"
    assert re.search(r"train cycle 0: crashed: .*137.*not started again \(placement.retries 0\)", ended.message), (
        ended.message
    )
    assert not any((stack.storage / "killed/cycle-000/train").glob("*/manifest.json"))

    resumed = stack.start("cyborgs/full", run="killed")
    stack.wait_until_it_goes_on("killed", after=1)
    stack.compose("stop", "server")
    time.sleep(30)
    stack.compose("start", "server")
    wait_for(answers, "the server", seconds=90)
    ended = stack.finish(resumed)
    assert ended.state == "Completed", ended.log
    assert "starting it again" not in ended.log
    assert_same_results(undisturbed_cycle, stack.storage / "killed")


@pytest.mark.many
def test_killed_and_preempted_containers_are_started_again_by_policy(stack: Stack, undisturbed_cycle: Path) -> None:
    """First killed, then stopped as a machine that is taken away stops it: it saves and goes on elsewhere."""
    flow = start(stack, "retried")
    stack.docker("kill", stack.wait_for_save(flow, "retried"))
    stage, second = stack.wait_until_it_goes_on("retried", after=1)
    stack.docker("stop", "--time", "30", second)
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert_same_results(undisturbed_cycle, stack.storage / "retried")
    assert re.search(r"train cycle 0: crashed: .*; starting it again", ended.log), ended.log
    # Stopped, it saved and left its slot; Prefect scheduled the same flow run anew, in a third container.
    assert len(set(stack.containers("train-cycle-0-of-retried", "--all"))) == 3
    assert "stopped; what was done is saved" in stack.log(stage), stack.log(stage)


STAND_STILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if b"\\0-m\\0stages\\0" in (folder / "cmdline").read_bytes():
        os.kill(int(folder.name), signal.SIGSTOP)
"""


@pytest.mark.many
def test_hung_and_lost_stages_are_given_up_and_started_again(stack: Stack) -> None:
    """First the stage stands still in a container that lives, as over a network disk that is gone. Then worker and
    container die together and nobody tells Prefect: its state stays Running, the heartbeat stands still.
    """
    flow = start(stack, "lost", "placement.lost_after_minutes=0.4")
    hung = stack.wait_for_save(flow, "lost")
    stack.docker("exec", hung, "python", "-c", STAND_STILL)
    stage, second = stack.wait_until_it_goes_on("lost", after=1)
    assert second != hung
    assert hung not in stack.containers(hung, "--filter", "status=running"), "the first one still has the slot"
    stack.compose("kill", "worker")
    stack.docker("kill", second)
    said = "train cycle 0: lost: no sign of life from its container for 0.4 min; starting it again"
    # The worker comes back while the flow gives the stage up, not before: it would see that the container is gone.
    giving_up = "train cycle 0: stopping its container"
    wait_for(lambda: stack.log(flow).count(giving_up) == 2, "the flow giving its stage up for the second time")
    stack.compose("up", "--detach", "worker")
    ended = stack.finish(flow)
    assert ended.state == "Completed", ended.log
    assert ended.log.count(said) == 2, ended.log
    given_up = stack.read(stage)
    assert (given_up.state, given_up.message) == ("Crashed", "no sign of life from its container")


def test_after_a_power_cut_the_same_command_goes_on(stack: Stack, undisturbed_cycle: Path) -> None:
    """Flow, stage and worker die together; nothing is left that could tell Prefect, and the only slot is held."""
    flow = start(stack, "cut")
    container = stack.wait_for_save(flow, "cut")
    stack.compose("kill", "worker")
    (parent,) = stack.containers("", "--filter", f"label=io.prefect.flow-run-id={flow}")
    stack.docker("kill", parent, container)
    assert stack.read(flow).state == "Running", "somebody knows: this test shows nothing"
    stack.compose("up", "--detach", "worker")
    ended = stack.finish(flow, seconds=60)
    assert (ended.state, ended.message) == ("Crashed", "its container is gone")
    resumed = stack.finish(stack.start("cyborgs/full", run="cut"))
    assert resumed.state == "Completed", resumed.log
    assert_same_results(undisturbed_cycle, stack.storage / "cut")


def test_a_stage_that_fails_by_itself_is_not_started_again(stack: Stack) -> None:
    flow = start(stack, "no-gpu", "placement.device=cuda:7")
    ended = stack.finish(flow)
    assert ended.state == "Failed", ended.log
    assert ended.message.startswith("warm-up: failed: placement.device cuda:7: this machine has "), ended.message
    assert len(stack.flow_runs("cyborgs-stage/warm-up", like="of no-gpu")) == 1


def test_what_is_cancelled_stops_and_saves_and_the_same_command_goes_on(stack: Stack) -> None:
    """Somebody cancels the stage, which ends the flow; the same command goes on, and is cancelled itself."""
    flow = start(stack, "called-off", "schedule.epochs=400")
    stack.wait_for_save(flow, "called-off")
    stage = stack.flow_runs("cyborgs-stage/train", like="train cycle 0 of called-off")[0]
    stack.prefect("flow-run", "cancel", stage.id)
    ended = stack.finish(flow)
    assert ended.state == "Failed", ended.log
    assert ended.message.startswith("train cycle 0: cancelled: "), ended.message
    assert "starting it again" not in ended.log

    flow = stack.start("cyborgs/full", run="called-off")
    second, container = stack.wait_until_it_goes_on("called-off", after=1)
    stack.prefect("flow-run", "cancel", flow)
    ended = stack.finish(flow, seconds=90)
    assert ended.state == "Cancelled", ended.message
    wait_for(lambda: not stack.containers(container, "--filter", "status=running"), "the end of the container")
    assert stack.read(second).state == "Cancelled"
    assert "train cycle 0: stopped; what was done is saved" in stack.log(second)
    assert "train cycle 0: its flow run has ended as Cancelled" in stack.log(flow)

"""A stage as a run of the deployment `cyborgs-stage/<stage>`: in a container of its own, wherever its worker is.

Prefect's states are hearsay here: a worker that dies leaves its run "Running", and a run that is called "Crashed" may
still be at work. Whether a stage is done is asked of storage; whether it lives, of its heartbeat.
"""

import time
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling, Crashed

from flows.watch import Watch
from schemas.artifacts import Manifest
from schemas.errors import PreemptedError, StageFailedError
from schemas.stages import StageRequest
from storage.artifacts import Standings
from storage.heartbeat import BEAT_SECONDS
from storage.run import open_run

PREEMPTED = "Preempted"
"""Name of the state in which a stage's flow run ends when the stage stopped on request."""
_POLL_SECONDS = 1.0
_QUIET_SECONDS = 2.5 * BEAT_SECONDS
"""A heartbeat that stands still for so long after its run has ended is a dead stage's."""
_PAUSE_SECONDS = 5.0
_CANCEL_SECONDS = 60.0
_UNCLAIMED_SECONDS = 60.0

Ending = Literal["done", "failed", "cancelled", "crashed", "preempted", "lost"]


@dataclass(frozen=True)
class _End:
    how: Ending
    why: str = ""


def launch(request: StageRequest, watch: Watch) -> None:
    """Run a stage in a container and wait; what crashed, was preempted or lost is started again, by the run's policy.

    Raises:
        PreemptedError: this process was asked to stop; the stage's container has been told to stop too.
        StageFailedError: it ended without its artifact; the message says how and why.
    """
    name, policy = watch.step.name, watch.run.config.placement
    before = _manifest(request, watch)
    again = 0
    for attempt in range(1_000_000):
        reached = watch.pulse.furthest
        end = _attempt(request, watch, attempt, before)
        if end.how == "done":
            return
        if end.how in ("failed", "cancelled"):
            raise StageFailedError(f"{name}: {end.how}: {end.why}")
        again = 0 if watch.pulse.furthest > reached else again + 1
        if again > policy.retries:
            raise StageFailedError(
                f"{name}: {end.how}: {end.why}; given up after {again} attempts without progress "
                "(placement.retries); what was saved is kept, the same command goes on from there"
            )
        watch.say(f"{name}: {end.how}: {end.why}; starting it again, it goes on from its last save")
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("a million attempts")


def _manifest(request: StageRequest, watch: Watch) -> Manifest | None:
    """The manifest that stands now: inputs may have changed while a container waited, so the run is opened anew."""
    return Standings(open_run(request.run)).of(watch.step).manifest


def _attempt(request: StageRequest, watch: Watch, attempt: int, before: Manifest | None) -> _End:
    with get_client(sync_client=True) as client:
        child = _submit(request, watch, attempt)
        try:
            state = _wait(client, child, watch)
            if state is None:
                _close(client, child, watch)
        except BaseException as reason:
            _cancel(client, child, watch)
            raise PreemptedError(f"{watch.step.name}: stopped, and its container told to stop") from reason
    now = _manifest(request, watch)
    # Made again on request, it has another manifest than before; else any will do.
    if now is not None and (now != before or not request.force):
        figures = "  ".join(f"{figure} {value}" for figure, value in now.summary.items())
        watch.say(f"{watch.step.name}: done in {now.provenance.seconds:.0f} s  {figures}")
        return _End("done")
    if state is None:
        minutes = watch.run.config.placement.lost_after_minutes
        return _End("lost", f"no sign of life from its container for {minutes:g} min")
    return _judge(state)


def _judge(state: State) -> _End:
    why = " ".join((state.message or state.name or "").split())
    if state.is_completed():
        return _End("failed", "its flow run ended well and left no artifact")
    if state.is_cancelled():
        return _End("cancelled", why or "somebody cancelled its flow run")
    if state.name == PREEMPTED:
        return _End("preempted", why)
    return _End("crashed" if state.is_crashed() else "failed", why)


def _submit(request: StageRequest, watch: Watch, attempt: int) -> UUID:
    deployment = f"cyborgs-stage/{request.stage}"
    parent = f"{flow_run.id or uuid4()}-{flow_run.run_count}"
    try:
        child = run_deployment(
            deployment,
            parameters={"run": request.run, "cycle": request.cycle, "force": request.force},
            timeout=0,
            flow_run_name=f"{watch.step.name} of {watch.run.store.url.rsplit('/', 1)[-1]}",
            # The same attempt never starts twice; the next attempt, or a retry of the parent, is a run of its own.
            idempotency_key=f"{parent}-{watch.step.name}-{attempt}",
            tags=["cyborgs"],
        )
    except ObjectNotFound as error:
        raise StageFailedError(
            f"{watch.step.name}: there is no deployment {deployment}: `prefect deploy --all` makes it"
        ) from error
    watch.say(f"{watch.step.name}: handed to {deployment} as {child.name}")  # type: ignore[union-attr]
    return child.id  # type: ignore[union-attr]


def _wait(client: SyncPrefectClient, child: UUID, watch: Watch) -> State | None:
    """The final state of a flow run; None when it is lost."""
    lost_after = watch.run.config.placement.lost_after_minutes * 60
    submitted, told = time.monotonic(), False
    running = False
    while True:
        time.sleep(_POLL_SECONDS)
        watch.look()
        state = _state(client, child)
        if state is not None and state.is_final():
            return state if _is_quiet(watch) else _outlive(client, child, watch)
        if state is not None and state.is_running() != running:
            running = state.is_running()
            watch.pulse.rest()
        if running and watch.pulse.silence > lost_after:
            return None
        if not running and not told and time.monotonic() - submitted > _UNCLAIMED_SECONDS:
            watch.say(f"{watch.step.name}: still waiting for a worker with a free slot to take it up")
            told = True


def _is_quiet(watch: Watch) -> bool:
    """Whether a run that is said to have ended has: its heartbeat is gone or stands still."""
    if watch.pulse.last is None:
        return True
    watch.pulse.rest()
    while watch.pulse.silence < _QUIET_SECONDS:
        before = watch.pulse.last
        watch.look()
        if watch.pulse.last is None:
            return True
        if watch.pulse.last != before:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _outlive(client: SyncPrefectClient, child: UUID, watch: Watch) -> State | None:
    """The stage is said to have ended and is still at work: wait until it really has."""
    watch.say(f"{watch.step.name}: its flow run has ended, the stage itself is still at work; waiting for it")
    while not _is_quiet(watch):
        pass
    return _state(client, child)


def _state(client: SyncPrefectClient, child: UUID) -> State | None:
    """None while the server does not answer: the stage goes on without it, and so does the wait."""
    try:
        return client.read_flow_run(child).state
    except httpx.HTTPError:
        return None


def _cancel(client: SyncPrefectClient, child: UUID, watch: Watch) -> None:
    """Tell the stage's container to stop, and see that it does."""
    name = watch.step.name
    try:
        client.set_flow_run_state(child, Cancelling(message="the flow that waits for it was stopped"))
        watch.say(f"{name}: stopping its container")
        deadline = time.monotonic() + _CANCEL_SECONDS
        while time.monotonic() < deadline:
            state = _state(client, child)
            if state is not None and state.is_final():
                watch.say(f"{name}: its container has stopped; what was done is saved")
                return
            time.sleep(_POLL_SECONDS)
        watch.say(f"{name}: its container has not stopped yet; look at `prefect flow-run inspect {child}`")
    except httpx.HTTPError:
        watch.say(f"{name}: the server does not answer, so its container was not told to stop: flow run {child}")


def _close(client: SyncPrefectClient, child: UUID, watch: Watch) -> None:
    """A lost run would hold its slot of the queue for ever."""
    try:
        client.set_flow_run_state(child, Crashed(message="no sign of life from its container"), force=True)
    except httpx.HTTPError:
        watch.say(f"{watch.step.name}: the server does not answer; flow run {child} may still hold its slot")

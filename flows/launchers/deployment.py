"""A stage as a run of the deployment `cyborgs-stage/<stage>`: in a container of its own, wherever its worker is.

Prefect's states are hearsay here: a worker that dies leaves its run "Running", and a run that is called "Crashed" may
still be at work. Whether a stage is done is asked of storage; whether it lives, of its heartbeat.
"""

import itertools
import time
from dataclasses import dataclass
from typing import Literal, cast
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelling, Crashed

from flows.watch import Watch
from schemas.artifacts import Manifest
from schemas.errors import PreemptedError, StageFailedError
from schemas.stages import StageRequest
from storage.alarms import untold_alarm
from storage.artifacts import Standings
from storage.heartbeat import BEAT_SECONDS
from storage.run import open_run

PREEMPTED = "Preempted"
"""Name of the state in which a stage's flow run ends when the stage stopped on request."""
_POLL_SECONDS = 1.0
_QUIET_SECONDS = 2.5 * BEAT_SECONDS
"""A heartbeat that stands still for so long after its run has ended is a dead stage's."""
_PAUSE_SECONDS = 5.0
_CANCEL_SECONDS = 25.0
"""Prefect gives this process 30 s itself."""
_GIVE_UP_SECONDS = 45.0
"""In which a stage that hangs is killed, 25 s after it was asked to stop."""
_UNCLAIMED_SECONDS = 60.0
_STARTING_SECONDS = 3600.0
"""How long a container may take to start: pulling an image, waiting for a machine."""

Ending = Literal["done", "failed", "cancelled", "crashed", "preempted", "lost"]


@dataclass(frozen=True)
class _End:
    how: Ending
    why: str = ""


def launch(request: StageRequest, watch: Watch) -> None:
    """Run a stage in a container and wait; what crashed, was preempted or lost is started again, by the run's policy.

    Raises:
        PreemptedError: this process was asked to stop; the stage's container has been told to stop too. Or the stage
            paused at an alarm.
        StageFailedError: it ended without its artifact; the message says how and why.
    """
    name, policy = watch.step.name, watch.run.config.placement
    in_vain = 0
    for attempt in itertools.count():
        reached = watch.pulse.furthest
        end = _attempt(request, watch, attempt)
        if end.how == "done":
            return
        if untold_alarm(open_run(request.run), watch.step) is not None:
            raise PreemptedError(f"{name}: paused at an alarm")
        if end.how in ("failed", "cancelled"):
            raise StageFailedError(f"{name}: {end.how}: {end.why}")
        in_vain = 0 if watch.pulse.furthest > reached else in_vain + 1
        if not policy.retries or in_vain > policy.retries:
            raise StageFailedError(
                f"{name}: {end.how}: {end.why}; not started again (placement.retries {policy.retries}); "
                "what was saved is kept, the same command goes on from there"
            )
        watch.say(f"{name}: {end.how}: {end.why}; starting it again, it goes on from its last save")
        time.sleep(_PAUSE_SECONDS)


def _attempt(request: StageRequest, watch: Watch, attempt: int) -> _End:
    child: UUID | None = None
    key = f"{flow_run.id or uuid4()}-{flow_run.run_count}-{watch.step.name}-{attempt}"
    with get_client(sync_client=True) as client:
        try:
            child = _submit(request, watch, key)
            end = _wait(client, child, watch)
            if end.how == "lost":
                _give_up(client, child, watch)
        # Ctrl-C, or SIGTERM under Prefect: the container is not left at work.
        except (KeyboardInterrupt, TerminationSignal) as reason:
            # A request that was cut off may have arrived all the same: the same key finds what it made.
            _cancel(client, child or _submit(request, watch, key), watch)
            raise PreemptedError(f"{watch.step.name}: stopped, and its container told to stop") from reason
    now = _manifest(request, watch)
    if now is None:
        return end
    figures = "  ".join(f"{figure} {value}" for figure, value in now.summary.items())
    watch.say(f"{watch.step.name}: done in {now.provenance.seconds:.0f} s  {figures}")
    return _End("done")


def _manifest(request: StageRequest, watch: Watch) -> Manifest | None:
    """The manifest that stands now: the run may have changed while a container waited, so it is opened anew."""
    return Standings(open_run(request.run)).of(watch.step).manifest


def _submit(request: StageRequest, watch: Watch, key: str) -> UUID:
    """Make the flow run of one attempt. A second request with the same key finds the first one's."""
    name, deployment = watch.step.name, f"cyborgs-stage/{request.stage}"
    told = False
    while True:
        try:
            made = run_deployment(
                deployment,
                parameters={"run": request.run, "cycle": request.cycle},
                timeout=0,
                flow_run_name=f"{name} of {watch.run.store.url.rsplit('/', 1)[-1]}",
                idempotency_key=key,
                tags=["cyborgs"],
            )
        except ObjectNotFound as error:
            raise StageFailedError(
                f"{name}: there is no deployment {deployment}: `prefect deploy --all` makes it"
            ) from error
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise StageFailedError(f"{name}: {deployment} is refused by the Prefect server: {error}") from error
            if not told:
                watch.say(f"{name}: the Prefect server does not answer ({type(error).__name__}); trying again")
            told = True
            time.sleep(_PAUSE_SECONDS)
        else:
            child = cast(FlowRun, made)  # typed as a coroutine too, which it is inside an event loop alone
            watch.say(f"{name}: handed to {deployment} as {child.name}")
            return child.id


def _wait(client: SyncPrefectClient, child: UUID, watch: Watch) -> _End:
    """How a flow run ends; it is lost when its stage shows no sign of life while it is said to be at work."""
    lost_after = watch.run.config.placement.lost_after_minutes * 60
    submitted, told, before = time.monotonic(), False, ""
    while True:
        time.sleep(_POLL_SECONDS)
        asked = time.monotonic()
        try:
            state = _state(client, child)
        except ObjectNotFound:
            return _End("lost", "somebody deleted its flow run")
        watch.look()
        if time.monotonic() - asked > _QUIET_SECONDS:
            watch.pulse.rest()  # the server was away, and so was this look-out: silence counts from now
        if state is None:
            continue
        if state.is_final():
            return _judge(_settle(client, child, watch) or state, watch.step.name)
        if state.type.value != before:
            before = state.type.value
            watch.pulse.rest()
        if (state.is_running() or state.is_cancelling()) and watch.pulse.silence > lost_after:
            return _End("lost", f"no sign of life from its container for {lost_after / 60:g} min")
        if state.is_pending() and watch.pulse.silence > _STARTING_SECONDS:
            return _End("lost", f"its container has not started for {_STARTING_SECONDS / 60:g} min")
        if state.is_scheduled() and not told and time.monotonic() - submitted > _UNCLAIMED_SECONDS:
            watch.say(f"{watch.step.name}: still waiting for a worker with a free slot to take it up")
            told = True


def _judge(state: State, name: str) -> _End:
    why = " ".join((state.message or state.name or "").split())
    for said in (f"{name}: ", "failed: "):  # and is said again
        why = why.removeprefix(said)
    if state.is_completed():
        return _End("failed", "its flow run ended well and left no artifact")
    if state.is_cancelled():
        return _End("cancelled", why or "somebody cancelled its flow run")
    if state.name == PREEMPTED:
        return _End("preempted", why)
    return _End("crashed" if state.is_crashed() else "failed", why)


def _settle(client: SyncPrefectClient, child: UUID, watch: Watch) -> State | None:
    """Wait until a stage whose run is said to have ended really has: its heartbeat is gone or stands still."""
    told = False
    watch.pulse.rest()
    while watch.pulse.last is not None and watch.pulse.silence < _QUIET_SECONDS:
        before = watch.pulse.last
        time.sleep(_POLL_SECONDS)
        watch.look()
        if watch.pulse.last not in (before, None) and not told:
            watch.say(f"{watch.step.name}: its flow run has ended, the stage itself is still at work; waiting for it")
            told = True
    try:
        return _state(client, child)
    except ObjectNotFound:
        return None


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
        state = _stop(client, child, watch, why="the flow that waits for it was stopped", seconds=_CANCEL_SECONDS)
    except (httpx.HTTPError, ObjectNotFound):
        watch.say(f"{name}: its container could not be told to stop: flow run {child}")
    else:
        if state is None:
            watch.say(f"{name}: its container has not stopped yet; see `prefect flow-run inspect {child}`")
        else:
            watch.say(f"{name}: its flow run has ended as {state.name}; what was saved is kept")


def _give_up(client: SyncPrefectClient, child: UUID, watch: Watch) -> None:
    """End a lost run, which would hold its slot for ever; a container that only hangs is told to stop first."""
    try:
        _stop(client, child, watch, why="no sign of life from its container", seconds=_GIVE_UP_SECONDS)
        client.set_flow_run_state(child, Crashed(message="no sign of life from its container"), force=True)
    except ObjectNotFound:
        return
    except httpx.HTTPError:
        watch.say(f"{watch.step.name}: flow run {child} may still hold its slot; `prefect flow-run delete {child}`")


def _stop(client: SyncPrefectClient, child: UUID, watch: Watch, *, why: str, seconds: float) -> State | None:
    """Have a flow run's worker stop its container; its final state, or None where nobody has in time."""
    client.set_flow_run_state(child, Cancelling(message=why))
    watch.say(f"{watch.step.name}: stopping its container")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = _state(client, child)
        if state is not None and state.is_final():
            return state
        time.sleep(_POLL_SECONDS)
    return None

"""Flow runs whose containers are gone: after a power cut Prefect calls them running, and they hold their slots."""

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.states import Crashed

_ALIVE = frozenset({"created", "running", "restarting", "paused"})


def close_abandoned(client: SyncPrefectClient, pool: str, *, worker: str) -> list[str]:
    """Close what the worker left behind that is about to start again; a container that lives is left alone.

    Args:
        worker: its name. While another one serves the pool, whose engine nobody here can ask, nothing is closed.

    Returns:
        Names of the flow runs that were closed.
    """
    workers = client.read_workers_for_work_pool(pool)
    if any(other.name != worker and other.status == WorkerStatus.ONLINE for other in workers):
        return []
    at_work = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=at_work)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    abandoned = [run for run in runs if not _lives(run)]
    for run in abandoned:
        client.set_flow_run_state(run.id, Crashed(message="its container is gone"), force=True)
    return [run.name for run in abandoned]


def _lives(run: FlowRun) -> bool:
    """Whether its container is there and has not ended; a run that was given none has nobody who would start it."""
    import docker  # type: ignore[import-untyped]  # in the worker's image alone

    if not run.infrastructure_pid:
        return False
    engine: Any = docker.from_env()
    try:
        return engine.containers.get(run.infrastructure_pid.rsplit(":", 1)[-1]).status in _ALIVE
    except docker.errors.NotFound:
        return False
    finally:
        engine.close()

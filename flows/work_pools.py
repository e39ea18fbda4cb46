"""`python -P -m flows.work_pools docker|kubernetes`: the work pool and its queues, from a template in job_templates/.

Compose's worker runs it before it starts; again after a change of .env, it brings the pool up to date.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists

from flows.abandoned import close_abandoned
from schemas.errors import ConfigError, CyborgsError

POOL = "cyborgs"
TEMPLATES = Path(__file__).parent / "job_templates"
DEFAULTS = {
    "CYBORGS_IMAGE": "cyborgs:0.1.0",
    "CYBORGS_IMAGE_PULL_POLICY": "IfNotPresent",
    "CYBORGS_NETWORK": "cyborgs",
    "CYBORGS_CACHE_VOLUME": "cyborgs-cache",
    "CYBORGS_UID": "1000",
    "CYBORGS_GID": "1000",
    "CYBORGS_SHM_SIZE": "2g",
    "CYBORGS_GPUS": "none",
}
QUEUES: dict[str, int | None] = {"orchestration": None, "cpu": None, "gpu": 1}
"""Queue -> how many of its runs may go at once. One `gpu` slot: a stage has all GPUs that its container is given."""


def main(arguments: list[str] | None = None) -> int:
    """Make the pool and its queues, or bring them up to date; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.work_pools", description=__doc__)
    parser.add_argument("kind", choices=sorted(path.stem for path in TEMPLATES.glob("*.json")))
    parser.add_argument(
        "--for-worker", metavar="NAME", help="of Docker, about to start: close what it left behind when it was killed"
    )
    given = parser.parse_args(arguments)
    kind, worker = given.kind, given.for_worker
    try:
        template = read_template(kind, os.environ)
        with get_client(sync_client=True) as client:
            set_up(client, kind, template, slots=_slots(os.environ.get("CYBORGS_GPU_SLOTS", "1")))
            if worker is not None:
                for name in close_abandoned(client, POOL, worker=worker):
                    print(f"{name}: its container is gone; it gives its slot back", flush=True)
    except CyborgsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"work pool {POOL}: ready, queues {', '.join(QUEUES)}", flush=True)
    return 0


def read_template(kind: str, environment: Any) -> dict[str, Any]:
    """The job template of a kind of pool, with ${NAMES} filled in.

    Raises:
        ConfigError: a name that has no default is not set, or not an absolute path where it has to be.
    """
    for name in ("CYBORGS_STORAGE_PATH", "CYBORGS_DATA_PATH") if kind == "docker" else ():
        value = environment.get(name, "")
        if not value.startswith("/"):
            raise ConfigError(f"{name}={value}: give the absolute path of a folder of the host, in .env")

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        if value == "${CYBORGS_GPUS}":
            return device_requests(environment.get("CYBORGS_GPUS") or DEFAULTS["CYBORGS_GPUS"])
        if isinstance(value, str):
            return re.sub(r"\$\{(\w+)\}", lambda found: environment.get(found[1]) or DEFAULTS[found[1]], value)
        return value

    template: dict[str, Any] = fill(json.loads((TEMPLATES / f"{kind}.json").read_text()))
    return template


def device_requests(gpus: str) -> list[dict[str, Any]]:
    """`none`, `all`, or ids such as `0,1`, as docker-py takes them."""
    if gpus == "none":
        return []
    if gpus == "all":
        return [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]
    if not re.fullmatch(r"[\w-]+(,[\w-]+)*", gpus):
        raise ConfigError(f"CYBORGS_GPUS={gpus}: none, all, or ids such as 0,1")
    return [{"driver": "nvidia", "device_ids": gpus.split(","), "capabilities": [["gpu"]]}]


def _slots(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"CYBORGS_GPU_SLOTS={text}: a number from 1")
    return int(text)


def set_up(client: SyncPrefectClient, kind: str, template: dict[str, Any], *, slots: int) -> None:
    """Make the pool and its queues, or bring them up to date.

    Raises:
        ConfigError: there is a pool of that name and of another type.
    """
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type=kind, base_job_template=template))
    except ObjectAlreadyExists:
        known = client.read_work_pool(POOL).type
        if known != kind:
            raise ConfigError(f"work pool {POOL} is of the type {known}: delete it first, or keep to {known}") from None
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    for name, limit in QUEUES.items():
        limit = slots if name == "gpu" else limit
        try:
            client.create_work_queue(name=name, work_pool_name=POOL, concurrency_limit=limit)
        except ObjectAlreadyExists:
            queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
            client.update_work_queue(queue.id, concurrency_limit=limit)


if __name__ == "__main__":
    sys.exit(main())

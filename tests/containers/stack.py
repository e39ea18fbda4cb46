"""The stack as a person has it: docker-compose.yml, prefect.yaml, and Prefect's own command and API."""

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PORT = 4233
API = f"http://127.0.0.1:{PORT}/api"
PROJECT = "cyborgstest"
FINAL = frozenset({"Completed", "Failed", "Crashed", "Cancelled", "Preempted"})
"""Names of states in which a flow run ends."""


@dataclass
class FlowRun:
    """A flow run as the server has it."""

    id: str
    name: str
    state: str
    """Name of its state, such as Completed."""
    message: str
    start: str
    end: str
    log: str = ""


class Stack:
    """Brought up on entering, taken down with its volumes on leaving."""

    SETTINGS = (
        "network.architecture=resnet18",
        "network.region_grid=4",
        "network.projector_hidden=32",
        "network.projection_dim=16",
        "augmentation.crop_size=64",
        "augmentation.blur_kernel=5",
        "optimization.batch_size=4",
        "schedule.epochs=9",
        "schedule.warmup_epochs=1",
        "schedule.bootstrap_every_epochs=5",
        "vmf.clusters=4",
        "masks.max_side=96",
        "masks.clusters=[2,8]",
        "masks.images_per_group=4",
        "train.regions=4",
        "train.vmf_every_epochs=2",
        "evaluate.images=8",
        "evaluate.pictures=2",
        "numerics.threads=1",
    )
    """Two cycles on 18 small photographs; eight stages."""
    ONE_CYCLE = ("schedule.epochs=24", "schedule.bootstrap_every_epochs=0")
    """Laid over them: five stages, training long enough to be cut short twice."""
    SAVE_OFTEN = "placement.checkpoint_every_minutes=0.06"
    """A save takes its time too: 180 MB that have to outlive a power cut."""

    def __init__(self, photographs: Path, storage: Path, base: Path, *, uid: int) -> None:
        self.photographs, self.storage, self.uid = photographs, storage, uid
        self._env_file = base / "env"
        self._environment = {**os.environ, "PREFECT_API_URL": API, "DO_NOT_TRACK": "1", "PREFECT_HOME": str(base / "p")}
        socket = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"
        settings = {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "CYBORGS_DATA_PATH": photographs,
            "CYBORGS_STORAGE_PATH": storage,
            "CYBORGS_UID": uid,
            "CYBORGS_GID": uid,
            "CYBORGS_IMAGE": os.environ["CYBORGS_IMAGE"],
            "CYBORGS_IMAGE_PULL_POLICY": "Never",
            "CYBORGS_SHM_SIZE": "512m",
            "POSTGRES_IMAGE": os.environ["POSTGRES_IMAGE"],
            "POSTGRES_PASSWORD": "p@ss:word/1",
            "PREFECT_PORT": PORT,
            "DOCKER_SOCKET": socket,
        }
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def __enter__(self) -> Self:
        self.compose("down", "--volumes", "--remove-orphans")
        self.compose("up", "--detach")
        wait_for(lambda: self._health("worker") == "healthy", "a healthy worker", seconds=120)
        # On a terminal, where it would ask questions: there must be none.
        deploy = shlex.join([sys.executable, "-P", "-m", "prefect", "deploy", "--all"])
        typed = ["script", "--quiet", "--return", "--command", deploy, "/dev/null"]
        run(typed, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, timeout=120)
        return self

    def __exit__(self, *_: object) -> None:
        stages = self.docker("ps", "--all", "--quiet", "--filter", f"network={PROJECT}").split()
        services = self.docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"
        ).split()
        for container in set(stages) - set(services):
            self.docker("rm", "--force", container)
        self.compose("down", "--volumes", "--remove-orphans")
        subprocess.run([os.environ.get("DOCKER", "docker"), "volume", "rm", "--force", f"{PROJECT}-cache"], check=False)

    def compose(self, *arguments: str) -> str:
        given = [
            *os.environ.get("COMPOSE", "docker compose").split(),
            "--env-file",
            str(self._env_file),
            "--project-name",
            PROJECT,
            *arguments,
        ]
        return run(given, cwd=ROOT, env=self._environment)

    def docker(self, *arguments: str) -> str:
        return run([os.environ.get("DOCKER", "docker"), *arguments])

    def run_image(self, *command: str) -> str:
        """Run a command in the image alone, with the rights of a stage's container and nothing of Prefect around it."""
        return self.docker(
            "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/home/cyborgs:mode=1777",
            "--tmpfs", "/cache:mode=1777", "--shm-size", "512m", "--user", f"{self.uid}:{self.uid}",
            "--volume", f"{self.storage}:/storage", "--volume", f"{self.photographs}:/data:ro",
            os.environ["CYBORGS_IMAGE"], *command,
        )  # fmt: skip

    def prefect(self, *arguments: str) -> str:
        return run([sys.executable, "-P", "-m", "prefect", *arguments], cwd=ROOT, env=self._environment)

    def python(self, code: str) -> str:
        """Run code that talks to this server, in a process of its own: Prefect reads its settings once."""
        return run([sys.executable, "-P", "-c", code], env=self._environment)

    def _health(self, service: str) -> str:
        container = self.compose("ps", "--quiet", service).strip()
        return self.docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() if container else ""

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a deployment as a person does; the id of its flow run."""
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        self.prefect("deployment", "run", deployment, *given)
        return self.flow_runs(deployment)[0].id

    def start_full(self, name: str, *settings: str) -> str:
        return self.start("cyborgs/full", config="demo", run=name, data=["/data"], set=list(settings))

    def finish(self, flow_run: str, *, seconds: float = 400) -> FlowRun:
        """Wait for the end of a flow run."""
        wait_for(lambda: self.read(flow_run).state in FINAL, f"the end of {flow_run}", seconds=seconds)
        found = self.read(flow_run)
        found.log = self.log(flow_run)
        return found

    def run_full(self, name: str, *settings: str) -> FlowRun:
        return self.finish(self.start_full(name, *settings))

    def read(self, flow_run: str) -> FlowRun:
        return _flow_run(request("GET", f"/flow_runs/{flow_run}"))

    def flow_runs(self, deployment: str, *, like: str = "") -> list[FlowRun]:
        """Runs of a deployment, the newest first; `like` is part of their names."""
        flow, name = deployment.split("/")
        query = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [name]}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        found = [_flow_run(each) for each in request("POST", "/flow_runs/filter", query)]
        return [each for each in found if like in each.name]

    def log(self, flow_run: str) -> str:
        """All lines; the server gives at most 200 at a time."""
        lines: list[str] = []
        query = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        while page := request("POST", "/logs/filter", {**query, "offset": len(lines)}):
            lines += [line["message"] for line in page]
        return "\n".join(lines)

    def artifacts(self, prefix: str) -> list[dict[str, Any]]:
        """Artifacts whose keys begin so, the oldest first."""
        found = request("POST", "/artifacts/filter", {"limit": 200, "sort": "CREATED_DESC"})
        return [each for each in reversed(found) if str(each["key"]).startswith(prefix)]

    def containers(self, name: str, *arguments: str) -> list[str]:
        """Names of containers that begin so; without further arguments those that are there now."""
        return self.docker("ps", "--filter", f"name=^{name}", "--format", "{{.Names}}", *arguments).split()

    def wait_for_save(self, flow: str, name: str) -> str:
        """Until a flow run's train cycle 0 has saved a partial state; the name of its container."""
        train = self.storage / name / "cycle-000" / "train"

        def saved() -> bool:
            now = self.read(flow)
            assert now.state not in FINAL, f"{name} {now.state}: {now.message}\n{self.log(flow)}"
            return any(train.glob("*/partial/state"))

        wait_for(saved, f"a partial state of {name}", seconds=240)
        (container,) = self.containers(f"train-cycle-0-of-{name}", "--filter", "status=running")
        return container

    def wait_until_it_goes_on(self, name: str, *, after: int) -> tuple[str, str]:
        """Until train cycle 0 of a run goes on in a flow run behind that many others; its id, and its container."""
        train = {"deployment": "cyborgs-stage/train", "like": f"train cycle 0 of {name}"}
        wait_for(lambda: len(self.flow_runs(**train)) > after, f"train cycle 0 of {name} once more", seconds=240)
        stage = self.flow_runs(**train)[0].id
        wait_for(lambda: "going on from where it stopped" in self.log(stage), f"{name} going on", seconds=120)
        (container,) = self.containers(f"train-cycle-0-of-{name}", "--filter", "status=running")
        return stage, container

    def manifests(self, name: str) -> list[dict[str, Any]]:
        """All manifests of a run."""
        return [json.loads(path.read_text()) for path in sorted((self.storage / name).rglob("manifest.json"))]


def _flow_run(given: dict[str, Any]) -> FlowRun:
    state = given["state"] or {}
    return FlowRun(
        given["id"],
        given["name"],
        str(state.get("name")),
        str(state.get("message")),
        str(given["start_time"]),
        str(given["end_time"]),
    )


def request(method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(API + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=20) as answer:
        return json.load(answer)


def run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_for(happened: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.2)

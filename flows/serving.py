"""`cyborgs serve`: the deployments on this machine, without containers; stages are child processes of their flow."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from schemas.errors import RunError
from schemas.stages import STAGE_NAMES, STAGE_PURPOSES

_START_SECONDS = 90.0


def serve(*, port: int, limit: int) -> None:
    """Take up runs of `cyborgs/full`, `study/full` and `cyborgs-stage/<stage>` until interrupted.

    Args:
        port: of the Prefect server that is started on 127.0.0.1 where PREFECT_API_URL names none.
        limit: how many flows run at once.

    Raises:
        RunError: the server does not start.
    """
    signal.signal(signal.SIGTERM, _end)  # until Prefect has its own handler: the server must not be left behind
    with _server(port) as url:
        print(f"Prefect's page: {url.removesuffix('/api')}")
        print("In a second terminal:")
        print(f"  export PREFECT_API_URL={url}")
        print("  prefect deployment run cyborgs/full -p config=demo", flush=True)
        _serve_deployments(limit)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _serve_deployments(limit: int) -> None:
    # A stage handed to a deployment would wait for the slot that its flow holds.
    os.environ["CYBORGS_LAUNCHER"] = "process"
    # A run's lines are printed by its stages; its page has them too.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    # Imported here: Prefect reads the URL of the server when it is imported.
    import prefect
    from prefect.types.entrypoint import EntrypointType

    from flows.cyborgs import cyborgs
    from flows.stage import cyborgs_stage
    from flows.study import study

    by_module = EntrypointType.MODULE_PATH
    deployments = [
        cyborgs.to_deployment("full", tags=["cyborgs"], description=cyborgs.description, entrypoint_type=by_module),
        study.to_deployment("full", tags=["cyborgs"], description=study.description, entrypoint_type=by_module),
        *(
            cyborgs_stage.to_deployment(
                stage, tags=["cyborgs", "stage"], description=STAGE_PURPOSES[stage], entrypoint_type=by_module
            )
            for stage in STAGE_NAMES
        ),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of Prefect's own, at its end
        prefect.serve(*deployments, limit=limit, pause_on_shutdown=False, print_starting_message=False)  # type: ignore[arg-type]


@contextmanager
def _server(port: int) -> Iterator[str]:
    """The URL of the server that PREFECT_API_URL names, or of one that lives as long as this."""
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    url = f"http://127.0.0.1:{port}/api"
    if _answers(url):
        raise RunError(f"port {port} is taken: give another --port, or set PREFECT_API_URL={url} to use what is there")
    os.environ["PREFECT_API_URL"] = url
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    print("starting a Prefect server", file=sys.stderr, flush=True)
    command = [sys.executable, "-P", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # In a session of its own, so that Ctrl-C does not end it before the stages have saved.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"the Prefect server on port {port} does not start; see above, or give another --port")
            time.sleep(0.5)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=15)
        server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False

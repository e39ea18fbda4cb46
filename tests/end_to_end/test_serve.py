"""`cyborgs serve` and `prefect deployment run`, as two terminals type them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import RunError
from storage.artifacts import Standings
from storage.run import open_run

PYTHON = [sys.executable, "-P", "-c"]
CYBORGS = [*PYTHON, "import sys; from cli.main import main; sys.exit(main())"]
PREFECT = [sys.executable, "-P", "-m", "prefect"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_a_served_run_ends_and_goes_on_after_the_server_was_stopped(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    """The second terminal types what the first one printed; SIGTERM in a stage lets it save."""
    storage, port = tmp_path / "runs", free_port()
    environment = {**os.environ, "CYBORGS_STORAGE": str(storage), "PREFECT_HOME": str(tmp_path / "prefect")}
    given = ["-p", f"config={tiny_config}", "-p", f'data=["{photographs}"]', "-p", "run=mine"]
    often = ["-p", 'set=["placement.checkpoint_every_minutes=0.0001","schedule.epochs=40","numerics.threads=1"]']

    def serve() -> "subprocess.Popen[str]":
        with (tmp_path / "serve.log").open("a") as log:
            server = subprocess.Popen([*CYBORGS, "serve", "--port", str(port)], env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}/api"
        wait_for(lambda: f"export PREFECT_API_URL={url}" in (tmp_path / "serve.log").read_text(), server)
        environment["PREFECT_API_URL"] = url
        wait_for(lambda: "cyborgs/full" in run([*PREFECT, "deployment", "ls"], environment), server)
        del environment["PREFECT_API_URL"]
        return server

    def start(*arguments: str) -> None:
        run(
            [*PREFECT, "deployment", "run", "cyborgs/full", *arguments],
            environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"},
        )

    server = serve()
    try:
        start(*given, *often)
        train = storage / "mine/cycle-000/train"
        wait_for(lambda: any(train.glob("*/partial/state")), server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) is not None
        wait_for(lambda: not any(train.glob("*/lease")), None, seconds=60)  # the stage saves, and ends by itself

        (tmp_path / "serve.log").write_text("")
        server = serve()
        start("-p", "run=mine")

        def done() -> int:
            return sum(found.state == "done" for found in Standings(open_run(str(storage / "mine"))).all())

        wait_for(lambda: done() >= 5, server)  # index, warm-up, and a cycle
        assert (storage / "mine/report/index.html").exists()
        assert "train cycle 0: going on from where it stopped" in (tmp_path / "serve.log").read_text()
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_a_taken_port_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    from flows.serving import serve

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    taken = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=taken.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RunError, match=rf"port {taken.server_port} is taken: .*--port"):
            serve(port=taken.server_port, limit=1)
    finally:
        taken.shutdown()
        taken.server_close()


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return re.sub(r"\s+", " ", done.stdout)


def wait_for(condition: "object", server: "subprocess.Popen[str] | None", *, seconds: float = 180) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert server is None or server.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.2)

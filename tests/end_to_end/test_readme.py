"""Every command and every piece of Python in README.md, as a newcomer would type them."""

import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_scene
from tests.documents import ROOT, read_blocks, read_commands, run_command, run_python, shell_environment

README = ROOT / "README.md"
RUN_BY_CI = {"make demo", "make test"}


def test_continuous_integration_runs_the_make_targets() -> None:
    named = {" ".join(words) for words in read_commands(README) if words[0] == "make"}
    script = (ROOT / ".ci" / "run").read_text()
    assert named == RUN_BY_CI
    for target in named:
        assert f"part {target.split()[1]}" in script


@pytest.mark.slow
def test_every_command_works_in_order(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "photographs" / "holiday").mkdir(parents=True)
    for number in range(40):
        draw_scene(random, 128, 96).save(tmp_path / "photographs" / "holiday" / f"{number}.JPG")
    environment = shell_environment()
    for words in read_commands(README):
        if words[0] == "make":
            continue
        if words == ["cyborgs", "serve"]:
            server = serve(words, tmp_path, environment)
            request.addfinalizer(lambda server=server: stop(server))
            continue
        if words[:2] == ["cyborgs", "watch"]:
            watch(words, tmp_path, environment)
            continue
        run_command(words, tmp_path, environment)
    backbone = sorted(tmp_path.glob("runs/mine/cycle-*/train/*/model.safetensors"))[-1]
    for block in read_blocks(README, "python"):
        run_python(block.code.replace("BACKBONE", repr(str(backbone))), tmp_path)


def watch(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """In a second terminal, until Ctrl-C; a browser finds the run's page there."""
    server = subprocess.Popen([*words, "--port", "0"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        with urllib.request.urlopen(server.stdout.readline().split()[0], timeout=60) as answer:
            assert "<h1" in answer.read().decode()
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.communicate()


def serve(words: list[str], folder: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """The first terminal; what it prints goes into the environment of the second."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        [*words, "--port", str(port)], cwd=folder, env=environment.copy(), stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = next(line.split("=")[1].strip() for line in server.stdout if "PREFECT_API_URL=" in line)
    environment["PREFECT_API_URL"] = url
    deadline = time.monotonic() + 90
    while (
        "cyborgs/full"
        not in subprocess.run(
            ["prefect", "deployment", "ls"], env=environment, capture_output=True, text=True, check=True
        ).stdout
    ):
        assert time.monotonic() < deadline
    return server


def stop(server: "subprocess.Popen[str]") -> None:
    """As Ctrl-C or a closed terminal would."""
    server.terminate()
    server.communicate(timeout=120)

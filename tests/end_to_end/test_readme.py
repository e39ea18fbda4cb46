"""Every command and every piece of Python in README.md, as a newcomer would type them."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_scene

README = Path(__file__).parents[2] / "README.md"
RUN_BY_CI = {"make demo", "make test"}


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Command lines without their comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_continuous_integration_runs_the_make_targets() -> None:
    named = {" ".join(words) for words in commands() if words[0] == "make"}
    script = (README.parent / ".ci" / "run").read_text()
    assert named == RUN_BY_CI
    for target in named:
        assert f"part {target.split()[1]}" in script


@pytest.mark.slow
def test_every_command_works_in_order(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "photographs" / "holiday").mkdir(parents=True)
    for number in range(40):
        draw_scene(random, 128, 96).save(tmp_path / "photographs" / "holiday" / f"{number}.JPG")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for words in commands():
        if words[0] == "make":
            continue
        if words == ["cyborgs", "serve"]:
            server = serve(words, tmp_path, environment)
            request.addfinalizer(lambda server=server: stop(server))
            continue
        ended = subprocess.run(
            words,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
    backbone = sorted(tmp_path.glob("runs/mine/cycle-*/train/*/model.safetensors"))[-1]
    for code in blocks("python"):
        program = code.replace("BACKBONE", repr(str(backbone)))
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)


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

"""Every command and the Python of docs/transfer.md, on sample data, as somebody with a folder would type them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TUTORIAL = Path(__file__).parents[2] / "docs" / "transfer.md"
SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
QUICKER = ["--set", "schedule.epochs=2", "schedule.warmup_epochs=1", "schedule.bootstrap_every_epochs=1"]
"""For the pretraining, whose own tests are elsewhere."""


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no labelled photographs to learn from")
def test_every_command_works_in_order(tmp_path: Path) -> None:
    assert SAMPLES is not None
    coco = Path(SAMPLES) / "coco-mini"
    (tmp_path / "labelled").symlink_to(coco)
    (tmp_path / "photographs").symlink_to(coco / "train2017")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    assert len(commands) == 8
    for words in commands:
        quicker = QUICKER if words[1] == "run" else []
        ended = subprocess.run(
            [*words, *quicker], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
    with Image.open(tmp_path / "labels.png") as plot:
        assert min(plot.size) > 400
    (program,) = blocks("python")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)

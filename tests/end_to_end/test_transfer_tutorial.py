"""Every command and the Python of docs/transfer.md, on sample data, as somebody with a folder would type them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.documents import ROOT, read_blocks, read_commands, run_command, run_python, shell_environment

TUTORIAL = ROOT / "docs" / "transfer.md"
SAMPLES = os.environ.get("CYBORGS_SAMPLE_DATA")
QUICKER = ["--set", "schedule.epochs=2", "schedule.warmup_epochs=1", "schedule.bootstrap_every_epochs=1"]
"""For the pretraining, whose own tests are elsewhere."""


@pytest.mark.slow
@pytest.mark.skipif(SAMPLES is None, reason="CYBORGS_SAMPLE_DATA is not set: no labelled photographs to learn from")
def test_every_command_works_in_order(tmp_path: Path) -> None:
    assert SAMPLES is not None
    coco = Path(SAMPLES) / "coco-mini"
    (tmp_path / "labelled").symlink_to(coco)
    (tmp_path / "photographs").symlink_to(coco / "train2017")
    environment = shell_environment()
    commands = read_commands(TUTORIAL)
    assert len(commands) == 8
    for words in commands:
        run_command([*words, *(QUICKER if words[1] == "run" else [])], tmp_path, environment, timeout=600)
    with Image.open(tmp_path / "labels.png") as plot:
        assert min(plot.size) > 400
    (block,) = read_blocks(TUTORIAL, "python")
    run_python(block.code, tmp_path)

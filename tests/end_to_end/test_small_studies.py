"""Every small study, as people try it: one seed and two epochs a variant, on real photographs, to its table."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.study import STUDY_FOLDER, load_study

CYBORGS = str(Path(sys.executable).with_name("cyborgs"))
SMALL = sorted(path.stem for path in STUDY_FOLDER.glob("*-small.yaml"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.many,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("CYBORGS_SAMPLE_DATA" not in os.environ, reason="CYBORGS_SAMPLE_DATA names no photographs"),
]


@pytest.mark.parametrize("name", SMALL)
def test_a_smoke_run_ends_with_a_row_for_each_variant(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [CYBORGS, "study", name, "--smoke"], cwd=tmp_path, capture_output=True, text=True, timeout=3500, check=False
    )
    assert done.returncode == 0, done.stderr
    _, study = load_study(name, smoke=True)
    root = tmp_path / "runs" / f"{name}-smoke"
    rows = list(csv.DictReader((root / "table.csv").read_text().splitlines()))
    assert {(row["variant"], row["protocol"]) for row in rows} == {
        (variant, planned.protocol) for variant in study.variants for planned in study.measure
    }
    assert (root / "table.md").read_text() in done.stdout

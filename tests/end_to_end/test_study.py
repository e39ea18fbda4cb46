"""`cyborgs study` as people run it: a table, shared work, a kill, a member that fails."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.artifacts import Standings
from storage.run import open_run

CYBORGS = str(Path(sys.executable).with_name("cyborgs"))
STUDY = """
base: {config}
set: [placement.launcher=inline, schedule.epochs=4, evaluate.pictures=0]
data: [{photographs}]
seeds: [0, 1]
variants:
  bootstrap: []
  no-vmf: [train.vmf_every_epochs=0]
  grid: [masks.source=grid, masks.grid_cells=2, schedule.warmup_epochs=0]
  byol: [train.method=byol, schedule.warmup_epochs=0]
  broken: [network.start={tmp}/weights.pth]
  random: {{weights: random}}
measure:
  - {{protocol: region-linear, data: $STUDY_COCO, set: [max_side=96, layer=layer2, iterations=100]}}
"""


@pytest.fixture
def study(tmp_path: Path, tiny_config: Path, photographs: Path, coco: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of tiny runs, one of which cannot start."""
    monkeypatch.setenv("STUDY_COCO", str(coco))
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    path = tmp_path / "tiny-study.yaml"
    path.write_text(STUDY.format(config=tiny_config, photographs=photographs, tmp=tmp_path))
    return path


def cyborgs(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([CYBORGS, *arguments], cwd=cwd, capture_output=True, text=True, timeout=560, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_runs_to_its_table_and_repeats_nothing(study: Path, tmp_path: Path) -> None:
    planned = cyborgs("study", str(study), "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "10 runs on 18 photographs, 6 variants x 2 seeds" in planned.stdout
    assert "shared: warm-up, made by bootstrap-0, taken over by no-vmf-0" in planned.stdout
    assert not (tmp_path / "runs").exists()

    started = subprocess.Popen(
        [CYBORGS, "study", str(study)], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    root = tmp_path / "runs" / "tiny-study"
    deadline = time.monotonic() + 300
    while not list(root.glob("runs/no-vmf-0/cycle-000/train/*/manifest.json")):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    kept = {path: path.stat().st_mtime_ns for path in root.glob("runs/*/**/manifest.json")}

    whole = cyborgs("study", str(study), cwd=tmp_path)
    assert whole.returncode == 1, whole.stderr
    assert whole.stderr.count("failed: broken-0: warm-up: failed") == 1
    assert "failed: broken-1: warm-up: failed" in whole.stderr
    assert "Traceback" not in whole.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was done was done again"

    rows = {line.split(" | ")[0].removeprefix("| "): line for line in whole.stdout.splitlines() if line.startswith("|")}
    assert [name for name in rows if name not in ("variant", "---")] == [
        "bootstrap", "no-vmf", "grid", "byol", "broken", "random",
    ]  # fmt: skip
    assert " ± " in rows["grid"] and rows["grid"].endswith("| 2 |")
    assert rows["broken"].endswith("| 0 |")
    values = list(csv.DictReader((root / "table.csv").read_text().splitlines()))
    assert {(row["variant"], row["seed"]) for row in values if row["figure"] == "accuracy"} == {
        (variant, seed) for variant in ("bootstrap", "no-vmf", "grid", "byol", "random") for seed in "01"
    }
    # The same warm-up and index, content and all.
    first, second = (Standings(open_run(str(root / "runs" / name))) for name in ("bootstrap-0", "no-vmf-0"))
    for stage in ("index-images", "warm-up"):
        one, two = (each.input(stage).manifest for each in (first, second))
        assert one is not None and two is not None
        assert one.provenance == two.provenance, f"{stage} was computed twice"

    before = {
        path: path.stat().st_mtime_ns for path in root.glob("r*/**/*") if path.name.endswith(("manifest.json", ".json"))
    }
    again = cyborgs("study", str(study), cwd=tmp_path)
    assert again.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_mistakes_are_one_line(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = cyborgs("study", "nobody", cwd=tmp_path)
    assert (unknown.returncode, "not a .yaml file and not one of fig5a" in unknown.stderr) == (2, True)
    text = study.read_text()
    study.write_text(text.replace("masks.grid_cells=2", "masks.grid_cells=99"))
    wrong = cyborgs("study", str(study), cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("variant grid: masks.grid_cells = 99")
    monkeypatch.delenv("STUDY_COCO")
    study.write_text(text)
    missing = cyborgs("study", str(study), cwd=tmp_path)
    assert missing.returncode == 2
    assert "$STUDY_COCO: set that environment variable to where the data is" in missing.stderr

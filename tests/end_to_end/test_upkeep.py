"""Pausing, extending, forking, cleaning up: the commands as people type them."""

from pathlib import Path

import pytest

from schemas.errors import EXIT_PAUSED
from storage import layout
from storage.artifacts import Standings
from storage.run import open_run
from tests.end_to_end.test_command import CYBORGS, run


def _states(url: Path) -> list[str]:
    return [found.state for found in Standings(open_run(str(url))).all()]


@pytest.mark.slow
def test_a_run_pauses_goes_on_and_is_extended(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "mine"
    settings = [
        "--set",
        "placement.pause_after=bootstrap-masks",
        "placement.keep_checkpoints=last:1",
        "placement.launcher=inline",
    ]
    paused = run([*CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", str(url), *settings])
    assert paused.returncode == EXIT_PAUSED, paused.stderr
    (line,) = [line for line in paused.stderr.splitlines() if line.startswith("paused after")]
    assert line.startswith("paused after bootstrap-masks cycle 0 (placement.pause_after); have a look: cyborgs masks")
    assert "Traceback" not in paused.stderr
    assert _states(url) == ["done", "done", "done", *["pending"] * 5]
    looked = run([*CYBORGS, *line.split("have a look: cyborgs ")[1].split(";")[0].split()], cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert (tmp_path / "masks-cycle-0.png").is_file()

    again = run([*CYBORGS, "run", "--run", str(url)])
    assert again.returncode == EXIT_PAUSED, again.stderr
    assert "paused after bootstrap-masks cycle 1" in again.stderr
    last = run([*CYBORGS, "run", "--run", str(url)])
    assert last.returncode == 0, last.stderr
    assert _states(url) == ["done"] * 8
    assert len(list(url.rglob(layout.TRAINING_STATE))) == 1

    longer = run([*CYBORGS, "extend", str(url), "--epochs", "8"])
    assert longer.returncode == EXIT_PAUSED, longer.stderr
    assert "train cycle 1             stays  as it is" in longer.stderr
    assert "train cycle 2             anew   new" in longer.stderr
    assert run([*CYBORGS, "extend", str(url), "--epochs", "8"]).returncode == 0
    assert _states(url) == ["done"] * 11
    shorter = run([*CYBORGS, "extend", str(url), "--epochs", "7"])
    assert (shorter.returncode, shorter.stderr) == (2, f"--epochs 7: run {url} has 8; give a larger total\n")


def test_a_fork_and_what_an_update_leaves_behind(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url, new = tmp_path / "mine", tmp_path / "other"
    settings = ["--set", "placement.launcher=inline", "schedule.bootstrap_every_epochs=0"]
    made = run([*CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", str(url), *settings])
    assert made.returncode == 0, made.stderr
    forked = run([*CYBORGS, "fork", str(url), str(new), "--set", "evaluate.images=4"])
    assert forked.returncode == 0, forked.stderr
    assert "evaluate cycle 0         anew   evaluate.images 8 -> 4" in forked.stdout
    assert forked.stdout.endswith(f"next: cyborgs run --run {new}\n")

    updated = run([*CYBORGS, "run", "--run", str(url), "--update", "--set", "evaluate.images=4"])
    assert updated.returncode == 0, updated.stderr
    listed = run([*CYBORGS, "gc", str(url), "--dry-run"])
    assert "1 of" not in listed.stderr
    assert "would go (--dry-run)" in listed.stdout
    assert len(list(url.glob("cycle-000/evaluate/*"))) == 2
    removed = run([*CYBORGS, "gc", str(url)])
    assert removed.stdout.replace(" removed", "") == listed.stdout.replace(" would go (--dry-run)", "")
    assert len(list(url.glob("cycle-000/evaluate/*"))) == 1
    assert run([*CYBORGS, "gc", str(url)]).stdout == f"{url}: nothing to remove\n"
    assert _states(url) == ["done"] * 5

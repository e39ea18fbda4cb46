"""Two `cyborgs run` on one RUN at the same moment: one works, the other says who holds it; both end well."""

import re
import subprocess
from pathlib import Path

from storage.artifacts import Standings
from storage.run import open_run
from storage.verification import verify_run
from tests.end_to_end.test_command import CYBORGS
from tests.pipeline import assert_same_results, prepare, run_all


def test_two_commands_on_one_run(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    command = [*CYBORGS, "run", str(tiny_config), "--data", str(photographs), "--run", str(tmp_path / "run")]
    command += ["--set", "schedule.epochs=4"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    prepare(tmp_path / "alone", tiny_config, photographs, "schedule.epochs=4")
    run_all(tmp_path / "alone")
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    words = "".join(err for _, err in said)
    assert re.search(r"(warm-up|train cycle 0|masks cycle 0|index-images): waiting for process \d+ on ", words), words
    assert "Traceback" not in words
    run = open_run(str(tmp_path / "run"))
    for step in ("warm-up", "bootstrap-masks cycle 0", "train cycle 0", "evaluate cycle 0"):
        assert words.count(f"{step}: done in") == 1, f"{step} was not computed once:\n{words}"
    assert [finding.damage for finding in verify_run(run) if finding.damage] == []
    assert all(found.state == "done" for found in Standings(run).all())
    assert_same_results(tmp_path / "alone", tmp_path / "run")
    left = [
        path for path in (tmp_path / "run").rglob("*") if ".partial" in path.name or path.name in ("lease", "partial")
    ]
    assert left == []

"""`make test-mutants`: every mutant has to make an assertion of its tests fail.

An import error or a wrong shape does not count: a test that notices only that something broke says nothing about the
method. Each mutant is made in a copy of the project; `--every N` takes every Nth, for a bounded run.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
_COPIED = ("schemas", "storage", "cyborgs", "stages", "flows", "cli", "configs", "tests", "pyproject.toml")


def main() -> int:
    """Run the list; returns 1 when a mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--only", default="", metavar="NAME", help="part of a name")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS[:: given.every] if given.only in mutant.name]
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        copy.mkdir()
        for name in _COPIED:
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        for mutant in chosen:
            started = time.monotonic()
            verdict = judge(mutant, copy)
            print(f"{verdict:<10} {time.monotonic() - started:5.1f} s  {mutant.name}", flush=True)
            if not verdict.startswith("killed"):
                survived.append(mutant.name)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    return 1 if survived else 0


def judge(mutant: Mutant, copy: Path) -> str:
    """`killed`, `survived`, or `broken` where the tests failed for another reason than an assertion."""
    path = copy / mutant.file
    whole = path.read_text()
    assert whole.count(mutant.before) == 1, f"{mutant.name}: {mutant.file} has changed; write the mutant anew"
    path.write_text(whole.replace(mutant.before, mutant.after))
    try:
        ran = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow and not containers", "--tb=line", "-p",
                "no:cacheprovider", f"tests/{mutant.tests}",
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        path.write_text(whole)
    if ran.returncode == 0:
        return "survived"
    said = ran.stdout + ran.stderr
    return "killed" if re.search(r"\b(AssertionError|assert |DID NOT RAISE)", said) else "broken"


if __name__ == "__main__":
    sys.exit(main())

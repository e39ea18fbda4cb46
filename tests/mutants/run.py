"""The fixed list: every mutant has to make an assertion of its tests fail.

    python -m tests.mutants.run [--every N] [--only PART]

An import error or a wrong shape does not count: a test that notices only that something broke says nothing about the
method. Each mutant is made in a copy of the project, which child processes of the tests run too.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from tests.mutants.forked import BROKEN, KILLED, ROOT, SURVIVED, import_packages, in_children, run_tests
from tests.mutants.mutants import MUTANTS, Mutant

_COPIED = ("schemas", "storage", "cyborgs", "stages", "flows", "cli", "configs", "tests", "pyproject.toml")
_SECONDS = 900
_SHOWN = {SURVIVED: "SURVIVED", BROKEN: "NOT BY AN ASSERTION"}


def main() -> int:
    """Run the list; returns 1 when a mutant was not killed by an assertion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth, for a bounded run")
    parser.add_argument("--only", default="", metavar="PART", help="part of a mutant's name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    started = time.monotonic()
    chosen = [mutant for mutant in MUTANTS[:: given.every] if given.only in mutant.name]
    import_packages(sorted({file for mutant in chosen for file in _test_files(mutant)}))
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        judge = partial(_judge, folder=Path(folder))
        for mutant, verdict in in_children(chosen, judge, jobs=given.jobs, seconds=_SECONDS):
            killed += verdict == KILLED
            print(f"{_SHOWN.get(verdict, verdict)}  {mutant.name}", flush=True)
    print(f"{killed} of {len(chosen)} killed by an assertion, in {time.monotonic() - started:.0f} s")
    return 0 if killed == len(chosen) else 1


def _test_files(mutant: Mutant) -> list[str]:
    path = ROOT / "tests" / mutant.tests
    return [str(file.relative_to(ROOT)) for file in (path.glob("test_*.py") if path.is_dir() else [path])]


def _judge(mutant: Mutant, folder: Path) -> NoReturn:
    copy = folder / str(os.getpid())
    copy.mkdir()
    for name in _COPIED:
        source = ROOT / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
    path = copy / mutant.file
    whole = path.read_text()
    assert whole.count(mutant.before) == 1, f"{mutant.name}: {mutant.file} has changed; write the mutant anew"
    path.write_text(whole.replace(mutant.before, mutant.after))
    os.chdir(copy)
    sys.path[:] = [str(copy), *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
    os.environ["PYTHONPATH"] = str(copy)
    run_tests("-m", "not slow and not containers", f"{copy}/tests/{mutant.tests}", first_failure=False)


if __name__ == "__main__":
    sys.exit(main())

"""Mutation run over the losses, clustering, regions and schedules: at least 85 % have to be killed.

    python -m tests.mutants.automatic [--sample N --seed S] [--only PART]

Each mutation runs against the tests of its own module, `tests/<folder>/test_<module>.py`, in a forked copy of a process
that has imported all packages already. Killed is what makes a test fail; survivors are listed. Mutations that
cannot change a result stand in tests/mutants/equivalent.py with the reason, and do not count.
"""

import argparse
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.operators import Mutation, mutations, unchanged

ROOT = Path(__file__).parents[2]
LEAST = 0.85
"""Share that has to be killed."""
MODULES = (
    "cyborgs/losses/mask_contrastive.py",
    "cyborgs/losses/vmf.py",
    "cyborgs/clustering/bootstrap.py",
    "cyborgs/clustering/spherical_kmeans.py",
    "cyborgs/regions/correspondence.py",
    "cyborgs/regions/label_grid.py",
    "cyborgs/regions/pooling.py",
    "cyborgs/regions/sampling.py",
    "cyborgs/optimization/ema.py",
    "cyborgs/optimization/lars.py",
    "cyborgs/optimization/schedules.py",
    "cyborgs/training/vmf_step.py",
)
_OURS = ("cyborgs", "schemas", "storage", "stages", "flows", "cli", "tests")
# Packages are imported before pytest is there to watch, and its plugins are not needed.
_OPTIONS = ("-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=")
_SECONDS = 60
"""A mutation that takes longer is taken for one that never ends."""
_VERDICTS = {0: "survived", 1: "killed", 2: "killed by an error", -signal.SIGALRM: "killed by time"}


def main() -> int:
    """Returns 1 when too few were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="as many, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="PART", help="part of a module's path")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    modules = [file for file in MODULES if given.only in file]
    chosen = [each for file in modules for each in mutations(file, ROOT) if not is_equivalent(each)]
    if given.sample is not None and given.sample < len(chosen):
        chosen = random.Random(given.seed).sample(chosen, given.sample)
    started = time.monotonic()
    _import_packages(modules)
    for mutation, verdict in run([unchanged(file, ROOT) for file in modules], jobs=given.jobs):
        if verdict != "survived":
            print(f"{mirrored_by(mutation.file)} fails without any mutation: mend it first")
            return 1
    verdicts = dict(run(chosen, jobs=given.jobs))
    for mutation in chosen:
        if not verdicts[mutation].startswith("killed"):
            print(f"{verdicts[mutation]}  {mutation}")
    _report(verdicts)
    killed = sum(verdict.startswith("killed") for verdict in verdicts.values())
    print(f"{killed} of {len(chosen)} killed, {killed / len(chosen):.1%}, in {time.monotonic() - started:.0f} s")
    return 0 if killed >= LEAST * len(chosen) else 1


def is_equivalent(mutation: Mutation) -> bool:
    """Whether it is on the list of those that change no result."""
    return (mutation.file, mutation.before, mutation.after) in EQUIVALENT


def mirrored_by(file: str) -> str:
    """The test file that mirrors a module."""
    path = Path(file)
    return str(Path("tests") / path.parent / f"test_{path.name}")


def run(chosen: Sequence[Mutation], *, jobs: int) -> Iterator[tuple[Mutation, str]]:
    """Each mutation and its verdict, as they come in; `jobs` at a time."""
    running: dict[int, Mutation] = {}
    waiting = list(reversed(chosen))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutation = waiting.pop()
            child = os.fork()
            if not child:
                _judge(mutation)
            running[child] = mutation
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        yield running.pop(child), _VERDICTS.get(code, "killed by a crash")


def _judge(mutation: Mutation) -> None:
    """In the child: the module's tests against the mutation; ends the process with the verdict."""
    signal.alarm(_SECONDS)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    name = mutation.file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Finder(name, mutation))
    verdict = _Verdict()
    try:
        code = pytest.main(
            [*_OPTIONS, str(ROOT / mirrored_by(mutation.file))],
            plugins=[verdict],
        )
    except BaseException:
        code = 2
    os._exit(0 if code == 0 else 1 if verdict.assertion else 2)


class _Verdict:
    """Whether the test that failed did so by an assertion."""

    def __init__(self) -> None:
        self.assertion = False

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None:
            self.assertion = call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module its changed code."""

    def __init__(self, name: str, mutation: Mutation) -> None:
        self._name, self._mutation = name, mutation

    def find_spec(self, fullname: str, *_: Sequence[str] | ModuleType | None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(ROOT / self._mutation.file))

    def exec_module(self, module: ModuleType) -> None:
        exec(self._mutation.code, module.__dict__)


def _import_packages(modules: Sequence[str]) -> None:
    """Import what the tests import, once for all children, but leave our own packages to each of them."""
    for file in modules:
        importlib.import_module(mirrored_by(file).removesuffix(".py").replace("/", "."))
    importlib.import_module("tests.cyborgs.conftest")
    for name in list(sys.modules):
        if name.split(".")[0] in _OURS and not name.startswith("tests.mutants"):
            del sys.modules[name]
    gc.collect()
    gc.freeze()  # or every child looks through all packages again


def _report(verdicts: dict[Mutation, str]) -> None:
    for file in dict.fromkeys(mutation.file for mutation in verdicts):
        counts = Counter(verdict for mutation, verdict in verdicts.items() if mutation.file == file)
        print(f"{file}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())

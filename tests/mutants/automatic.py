"""Mutation run over the losses, clustering, regions and schedules: at least 85 % have to be killed.

    python -m tests.mutants.automatic [--sample N --seed S] [--only PART]

Each mutation runs against the tests of its own module, `tests/<folder>/test_<module>.py`. Killed is what makes a test
fail; survivors are listed. Mutations that cannot change a result stand in tests/mutants/equivalent.py with the
reason, and do not count.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.forked import ROOT, SURVIVED, import_packages, in_children, run_tests
from tests.mutants.operators import Mutation, mutations, unchanged

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
"""cyborgs/clustering/crf.py is not among them: its tests need an optional package."""
_SECONDS = 120


def main() -> int:
    """Returns 1 when too few were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="as many, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="PART", help="part of a module's path")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    started = time.monotonic()
    modules = [file for file in MODULES if given.only in file]
    chosen = [each for file in modules for each in mutations(file, ROOT) if not is_equivalent(each)]
    if given.sample is not None and given.sample < len(chosen):
        chosen = random.Random(given.seed).sample(chosen, given.sample)
    import_packages([mirrored_by(file) for file in modules])
    as_they_are = [unchanged(file, ROOT) for file in modules]
    for module, verdict in in_children(as_they_are, _judge, jobs=given.jobs, seconds=_SECONDS):
        if verdict != SURVIVED:
            print(f"{mirrored_by(module.file)} fails without any mutation: mend it first")
            return 1
    verdicts = dict(in_children(chosen, _judge, jobs=given.jobs, seconds=_SECONDS))
    killed = [mutation for mutation in chosen if verdicts[mutation] != SURVIVED]
    for mutation in chosen:
        if verdicts[mutation] == SURVIVED:
            print(f"survived  {mutation}")
    for file in modules:
        counts = Counter(verdict for mutation, verdict in verdicts.items() if mutation.file == file)
        print(f"{file}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    seconds = time.monotonic() - started
    print(f"{len(killed)} of {len(chosen)} killed, {len(killed) / len(chosen):.1%}, in {seconds:.0f} s")
    return 0 if len(killed) >= LEAST * len(chosen) else 1


def is_equivalent(mutation: Mutation) -> bool:
    """Whether it is on the list of those that change no result."""
    return (mutation.file, mutation.before, mutation.after) in EQUIVALENT


def mirrored_by(file: str) -> str:
    """The test file that mirrors a module."""
    path = Path(file)
    return str(Path("tests") / path.parent / f"test_{path.name}")


def _judge(mutation: Mutation) -> NoReturn:
    sys.meta_path.insert(0, _Finder(mutation))
    run_tests(str(ROOT / mirrored_by(mutation.file)), first_failure=True)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module its changed code."""

    def __init__(self, mutation: Mutation) -> None:
        self._name, self._mutation = mutation.file.removesuffix(".py").replace("/", "."), mutation

    def find_spec(self, fullname: str, *_: Sequence[str] | ModuleType | None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(ROOT / self._mutation.file))

    def exec_module(self, module: ModuleType) -> None:
        exec(self._mutation.code, module.__dict__)


if __name__ == "__main__":
    sys.exit(main())

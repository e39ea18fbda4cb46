"""`python -m benchmarks [--quick] [--check] [FIGURE ...]`: measure, print the table, write benchmarks/latest.json."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figure import Figure, cores
from benchmarks.machine import describe
from benchmarks.one import read
from benchmarks.table import as_markdown, write_json

MODULES = {
    "step": "step",
    "warm-up": "warm_up",
    "k-means": "kmeans",
    "bootstrap": "bootstrap",
    "store": "store",
    "peer": "peer",
    "masks-in-loader": "masks_in_loader",
    "loader": "loader",
    "scaling": "scaling",
    "memory": "memory",
    "start": "start",
    "flow": "flow",
}
"""Figure -> module of this package; `store` finds what `bootstrap` made, but for quick sizes."""
LATEST = Path(__file__).with_name("latest.json")
_ROOT = Path(__file__).resolve().parents[1]
_SHOWN_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure.

    Returns:
        0; 1 where a benchmark failed, or with --check where a target is missed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(MODULES)}; none for all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, two at a time; no measure of the targets")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where runs are kept; else a temporary folder")
    parser.add_argument("--out", type=Path, default=LATEST, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args(arguments)
    for name in given.figures:
        if name not in MODULES:
            parser.error(f"{name}: no such figure; there are {', '.join(MODULES)}")
    machine = describe(cores())
    figures: list[Figure] = []
    failed = []
    with ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborgs-benchmarks-")))
        work = work.absolute() / ("quick" if given.quick else "full")
        work.mkdir(parents=True, exist_ok=True)
        names = given.figures or list(MODULES)
        # Quick ones are no measure anyway: two share the machine.
        with ThreadPoolExecutor(2 if given.quick else 1) as pool:
            for name, found in zip(
                names, pool.map(lambda name: _measure(name, quick=given.quick, work=work), names), strict=True
            ):
                failed += [name] if found is None else []
                figures += found or []
    print(as_markdown(figures, machine=machine + ("; quick sizes" if given.quick else "")))
    write_json(given.out, figures, machine=machine, quick=given.quick)
    missed = [figure.figure for figure in figures if not figure.met]
    if missed:
        print(f"✗ misses its target: {', '.join(missed)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or (given.check and missed) else 0


def _measure(name: str, *, quick: bool, work: Path) -> list[Figure] | None:
    """A benchmark in a process of its own; None where it fails, of which the end of its output tells."""
    out, words = work / f"{name}.json", work / f"{name}.log"
    if quick:
        work = work / name  # what two make at once they do not share
        work.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.one", MODULES[name], "quick" if quick else "full", str(work), str(out)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}  # this package is not installed
    started = time.monotonic()
    with words.open("wb") as stream:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False
        )
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if done.returncode:
        print("\n".join(words.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]), file=sys.stderr)
        return None
    return read(out)


if __name__ == "__main__":
    sys.exit(main())

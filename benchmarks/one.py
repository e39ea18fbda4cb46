"""One benchmark in this process: what it sets for its threads, memory and kernels touches no other.

python -m benchmarks.one NAME full|quick WORK OUT
"""

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.figure import Bench, Figure, cores
from benchmarks.machine import precisions


def main(name: str, size: str, work: Path, out: Path) -> None:
    """Measure, and leave the figures in OUT."""
    os.environ["CYBORGS_CACHE"] = str(work / "cache")
    quick = size == "quick"
    threads = max(1, cores() // 2) if quick else cores()  # two quick ones share the machine
    bench = Bench(quick=quick, work=work, threads=threads, precisions=precisions()[-1:] if quick else precisions())
    figures: list[Figure] = import_module(f"benchmarks.{name}").measure(bench)
    out.write_text(json.dumps([asdict(figure) for figure in figures]))


def read(out: Path) -> list[Figure]:
    """What `main` left."""
    return [Figure(**{**found, "spread": tuple(found["spread"])}) for found in json.loads(out.read_text())]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

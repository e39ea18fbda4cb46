"""`cyborgs doctor`: what will go wrong with this machine or these photographs, each with what to do."""

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from schemas.errors import CyborgsError, DataError
from stages.duplicates import Fingerprint, edited_copies, fingerprints, same_files
from storage.cache import cache_folder
from storage.photographs import list_candidates, source_folder
from storage.sources import is_remote

State = Literal["good", "note", "bad"]
_SHOWN = 10
_ENOUGH_DISK = 20e9
_ENOUGH_SHARED = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: State
    what: str
    advice: str = ""
    """What to do, where there is something to do."""


def examine(data: Sequence[str] = (), against: Sequence[str] = (), *, server: str | None = None) -> Iterator[Finding]:
    """All checks, one after the other.

    Args:
        data: photographs that will be trained on.
        against: photographs that will be measured, and must not be among them.
        server: URL of Prefect's API; None where none is set.

    Raises:
        DataError: a folder does not exist, or `against` was given alone.
    """
    if against and not data:
        raise DataError("--against EVAL_DIR: say with --data which photographs must not be in it")
    for source in (*data, *against):
        source_folder(source)
    yield _python()
    yield from _torch()
    yield _faiss()
    yield _shared_memory()
    yield from _disks()
    yield _prefect(server)
    if data:
        yield from _photographs(data, against)


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 13):
        return Finding("good", f"Python {version}")
    return Finding("bad", f"Python {version}", "use 3.11 or 3.12: make PYTHON=python3.11")


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision
    except (ImportError, OSError) as error:
        advice = "install it again: pip install -c constraints.txt torch torchvision"
        yield Finding("bad", f"torch does not import: {' '.join(str(error).split())}", advice)
        return
    yield Finding("good", f"torch {torch.__version__}, torchvision {torchvision.__version__}")
    count = torch.cuda.device_count()
    if count:
        for number in range(count):
            properties = torch.cuda.get_device_properties(number)
            yield Finding("good", f"GPU {number}: {properties.name}, {properties.total_memory / 1e9:.0f} GB")
    elif Path("/proc/driver/nvidia/gpus").exists():
        advice = (
            f"its driver is too old for CUDA {torch.version.cuda}: nvidia-smi says what it can"
            if torch.version.cuda
            else "this torch is for processors alone: install the one for CUDA"
        )
        yield Finding("bad", "there is a GPU that torch does not see", advice)
    else:
        cores = os.cpu_count() or 1
        yield Finding(
            "note", f"no GPU, {cores} cores", "fine for configs/demo.yaml and small.yaml; coco.yaml needs GPUs"
        )


def _faiss() -> Finding:
    try:
        import faiss
    except (ImportError, OSError) as error:
        advice = "pip install -c constraints.txt faiss-cpu"
        return Finding("bad", f"faiss does not import: {' '.join(str(error).split())}", advice)
    seen = int(faiss.get_num_gpus())
    if _gpus() > seen:
        advice = "clustering runs on the processor; install faiss-gpu for GPUs"
        return Finding("note", f"faiss {faiss.__version__} sees {seen} GPUs, torch more", advice)
    return Finding("good", f"faiss {faiss.__version__}, {seen} GPUs")


def _gpus() -> int:
    """That torch sees; none where it does not import, which is told by itself."""
    try:
        import torch
    except (ImportError, OSError):
        return 0
    return torch.cuda.device_count()


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("good", "no /dev/shm on this system: loader processes use files")
    free = shutil.disk_usage(folder).free
    if free < _ENOUGH_SHARED:
        advice = "loader processes need 1 GB: docker run --shm-size 8g, or placement.loader_workers=0"
        return Finding("bad", f"shared memory: {free / 1e9:.2f} GB free", advice)
    return Finding("good", f"shared memory: {free / 1e9:.1f} GB free")


def _disks() -> Iterator[Finding]:
    try:
        cache = cache_folder()
    except CyborgsError as error:
        yield Finding("bad", str(error))
        return
    storage = Path(os.environ.get("CYBORGS_STORAGE", "."))
    for name, folder in (("runs", storage if storage.is_dir() else Path()), ("cache", cache)):
        free = shutil.disk_usage(folder).free
        if free < _ENOUGH_DISK:
            variable = "CYBORGS_STORAGE" if name == "runs" else "CYBORGS_CACHE"
            advice = f"free some, or set {variable} to another disk; `cyborgs plan --images` says what a run needs"
            yield Finding("note", f"disk for {name} ({folder.absolute()}): {free / 1e9:.1f} GB free", advice)
        else:
            yield Finding("good", f"disk for {name} ({folder.absolute()}): {free / 1e9:.0f} GB free")


def _prefect(url: str | None) -> Finding:
    try:
        version = metadata.version("prefect")
    except metadata.PackageNotFoundError:
        return Finding("bad", "prefect is not installed", "pip install -c constraints.txt prefect")
    if not url:
        return Finding("good", f"prefect {version}, no server set: `cyborgs run` brings its own")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            answer.read()
    except (OSError, ValueError, urllib.error.URLError) as error:
        advice = "start it (`cyborgs serve`, or docker compose up), or unset PREFECT_API_URL (`prefect config view`)"
        return Finding("bad", f"Prefect server {url} does not answer: {' '.join(str(error).split())}", advice)
    return Finding("good", f"prefect {version}, server {url} answers")


def _photographs(data: Sequence[str], against: Sequence[str]) -> Iterator[Finding]:
    own, broken = fingerprints(_paths(data))
    shown = " and ".join(data)
    yield from _listed(
        [f"{path}: {reason}" for path, reason in broken],
        of=f"{len(own) + len(broken)} photographs in {shown}",
        problem="broken",
        advice="replace or remove it; a run leaves out up to index.max_broken_fraction and lists them",
    )
    yield from _listed(
        [_all_of(group) for group in same_files(own)],
        of=f"{len(own)} photographs",
        problem="duplicate",
        advice="keep one of them: it counts more than once, and copies are each other's negatives",
    )
    yield from _listed(
        [f"{one.path} and {other.path}" for one, other in edited_copies(own)],
        of=f"{len(own)} photographs",
        problem="look-alike",
        advice="one scaled or encoded again, or the next frame of a film: the same for training; keep one of them",
        state="note",
    )
    if not against:
        return
    measured, unreadable = fingerprints(_paths(against))
    measured_shown = " and ".join(against)
    yield from _listed(
        [f"{path}: {reason}" for path, reason in unreadable],
        of=f"{len(measured) + len(unreadable)} photographs in {measured_shown}",
        problem="broken",
        advice="replace it: it cannot be measured",
    )
    known = {each.digest: each for each in measured}
    leaked = [(each, known[each.digest]) for each in own if each.digest in known]
    yield from _listed(
        [f"{one.path} is {other.path}" for one, other in (*leaked, *edited_copies(own, measured))],
        of=f"{len(measured)} photographs in {measured_shown}, against {shown}",
        problem="leaked",
        advice=f"remove it from {shown}: figures on photographs that were trained on mean little",
    )


def _all_of(group: Sequence[Fingerprint]) -> str:
    more = f" and {len(group) - 2} more" if len(group) > 2 else ""
    return f"{group[0].path} and {group[1].path}{more}"


def _paths(sources: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        if is_remote(source):
            raise DataError(f"--data {source}: cyborgs doctor looks at photographs on a disk")
        folder = source_folder(source)
        found += [Path(folder.place(candidate.key)) for candidate in list_candidates((source,))]
    return found


def _listed(problems: list[str], *, of: str, problem: str, advice: str, state: State = "bad") -> Iterator[Finding]:
    if not problems:
        yield Finding("good", f"{of}: none {problem}")
        return
    for line in problems[:_SHOWN]:
        yield Finding(state, f"{problem}: {line}", advice)
    if len(problems) > _SHOWN:
        yield Finding(state, f"{problem}: {len(problems) - _SHOWN} more of {of}")

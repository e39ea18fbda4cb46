"""What a machine runs out of or loses in the middle of a stage, as one line that says what to change.

PyTorch tells most of these apart by their words alone.
"""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.config import RunConfig
from schemas.errors import CyborgsError, MachineError
from schemas.plan import Step
from storage.cache import cache_folder
from storage.run import Run

SHARED_MEMORY = Path("/dev/shm")
_FULL_BYTES = 2**20
_GO_ON = "the same command goes on from what was saved"

_GPU_MEMORY = re.compile(r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
_GPU = re.compile(
    r"CUDA error: .*|cuDNN error: .*|CUBLAS_STATUS_\w+|No CUDA GPUs are available|NVML.*|Unable to .*GPU.*"
)
_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|std::bad_alloc|MemoryError|failed to map segment"
)
_OPEN_FILES = re.compile(r"Too many open files|received 0 items of ancdata")
_SHARED_MEMORY = re.compile(
    r"Bus error|insufficient shared memory|shared memory object|allocate shared memory|unable to (mmap|resize)"
)
_LOADER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


@contextmanager
def explained(run: Run, step: Step) -> Iterator[None]:
    """Turn the mishaps of a machine into MachineError; other errors pass as they are.

    Raises:
        MachineError: one line with what to change.
    """
    try:
        yield
    except CyborgsError:
        raise
    except Exception as error:
        line = explain(error, step, run.config, Path(run.store.url))
        if line is None:
            raise
        raise MachineError(f"{step.name}: {line}; {_GO_ON}") from error


def explain(error: Exception, step: Step, config: RunConfig, place: Path) -> str | None:
    """What happened and what to change; None where it is no mishap of the machine.

    Args:
        place: of the run, where it is a folder.
    """
    words = " ".join(str(error).split())
    torch = sys.modules.get("torch")
    if (torch is not None and isinstance(error, torch.OutOfMemoryError)) or _GPU_MEMORY.search(words):
        return f"the GPU has too little memory: {_less_memory(step, config)}, or choose another placement.device"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE or _OPEN_FILES.search(words):
        return f"too many open files: raise the limit (ulimit -n 65536), or {_fewer_loaders(config)}"
    if not isinstance(error, OSError) and _SHARED_MEMORY.search(words):
        return (
            f"shared memory ({SHARED_MEMORY}) is too small for the data loaders: give the container more "
            f"(--shm-size=8g, or shm_size of its work pool), or {_fewer_loaders(config)}"
        )
    if _LOADER.search(words):
        return f"a data loader was killed, for want of memory most often: {_fewer_loaders(config)}"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _MEMORY.search(words):
        return f"the machine has too little memory: {_less_memory(step, config)}, or {_fewer_loaders(config)}"
    if number in (errno.ENOSPC, errno.EDQUOT) or _NO_SPACE.search(words):
        return f"no space left for {_full_place(error, place)}"
    if number == errno.EIO:
        return f"the disk under {getattr(error, 'filename', None) or place} reports an error: see the system's log"
    lost = _GPU.search(words)
    if lost is not None and isinstance(error, RuntimeError):
        return (
            f"the GPU cannot be used any more ({lost[0][:120].split(' CUDA kernel')[0].strip()}): see nvidia-smi and "
            "the system's log, restart the machine or choose another placement.device"
        )
    return None


def _less_memory(step: Step, config: RunConfig) -> str:
    """The settings that a stage's memory follows, with what they are now."""
    if step.stage == "bootstrap-masks":
        masks = config.masks
        return f"lower masks.images_per_group (now {masks.images_per_group}) or masks.max_side (now {masks.max_side})"
    if step.stage in ("warm-up", "train"):
        return (
            f"raise numerics.accumulation (now {config.numerics.accumulation}) "
            f"or lower optimization.batch_size (now {config.optimization.batch_size}), with --update"
        )
    return "end what else runs on it"


def _fewer_loaders(config: RunConfig) -> str:
    now = config.placement.loader_workers
    return f"add --set placement.loader_workers=0 (now {'chosen by the machine' if now is None else now})"


def _full_place(error: Exception, place: Path) -> str:
    named = getattr(error, "filename", None)
    if named is not None:
        return f"{named}: free some"
    for folder, advice in (
        (place, "free some"),
        (cache_folder(), "free some, or name another folder with CYBORGS_CACHE"),
        (Path(tempfile.gettempdir()), "free some, or name another folder with TMPDIR"),
        (SHARED_MEMORY, "give the container more (--shm-size=8g)"),
    ):
        if folder.is_dir() and _free(folder) < _FULL_BYTES:
            return f"{folder}: {advice}"
    return f"{place}: free some"


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize

"""What a config leaves to the machine on which its run is made: threads and number format."""

import os
import sys
from pathlib import Path

from schemas.config import RunConfig


def pin_numerics(config: RunConfig) -> RunConfig:
    """With threads and precision as they are on this machine, where the config leaves them to it."""
    numerics = config.numerics
    pinned = numerics.model_copy(
        update={
            "threads": numerics.threads or max(1, _cores() // numerics.world_size),
            "precision": _native_precision(config) if numerics.precision == "auto" else numerics.precision,
        }
    )
    return config.model_copy(update={"numerics": pinned})


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _native_precision(config: RunConfig) -> str:
    """bfloat16 on a GPU, or where the processor multiplies in it; emulated elsewhere, float32 is faster."""
    device = config.placement.device
    if device.startswith("cuda") or (device == "auto" and Path("/proc/driver/nvidia/gpus").exists()):
        return "bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"

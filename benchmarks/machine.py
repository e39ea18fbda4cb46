"""The machine that figures were measured on."""

import os
import platform
from pathlib import Path

from benchmarks.figure import cores

_DEFAULT_L3 = 64 * 2**20


def describe(threads: int) -> str:
    """One line: processor, cores, threads used, number formats, memory, torch."""
    import torch

    return (
        f"{_processor()}, {cores()} cores of {os.cpu_count()}, {threads} threads, {'/'.join(precisions())}, "
        f"L3 {l3_bytes() / 2**20:.0f} MiB, {_memory_bytes() / 2**30:.0f} GiB of memory, "
        f"torch {torch.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"
    )


def precisions() -> tuple[str, ...]:
    """Number formats that the processor computes in; emulated bfloat16 is slower than float32."""
    flags = _cpuinfo("flags").split()
    return ("float32", "bfloat16") if {"avx512_bf16", "amx_bf16"} & set(flags) else ("float32",)


def l3_bytes() -> int:
    """Size of the last cache before memory."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return _DEFAULT_L3
    return int(text.removesuffix("K")) * 1024


def _processor() -> str:
    name = _cpuinfo("model name") or platform.processor()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} (family {family} model {model})" if family else name


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() == field), "")


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

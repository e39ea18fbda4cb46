"""The device, threads and determinism that a stage computes with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import torch
from threadpoolctl import threadpool_limits

from schemas.config import RunConfig
from schemas.errors import ConfigError
from stages.team import ALONE, Team


def choose_device(name: str, team: Team = ALONE, *, setting: str = "placement.device") -> torch.device:
    """The device of that name; "auto" is a GPU where there is one, else the processor.

    Processes that share a stage take a GPU each, in order.

    Args:
        setting: by which it was named, for messages.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and team.size > 1:
        if team.local_rank >= torch.cuda.device_count():
            fewer = (
                "lower numerics.world_size for a new run" if setting == "placement.device" else "lower --nproc-per-node"
            )
            raise ConfigError(
                f"{setting} cuda: this machine has {torch.cuda.device_count()} GPUs for {team.local_size} "
                f"processes: {fewer}, or start it on more machines"
            )
        device = torch.device("cuda", team.local_rank)
        torch.cuda.set_device(device)
        return device
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{setting} {name!r}: use auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{setting} {name!r}: use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and team.size > 1:
        raise ConfigError(f"{setting} {name}: processes that share a stage take a GPU each: use cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{setting} {name}: this machine has {torch.cuda.device_count()} GPUs; use auto or cpu")
    return device


def apply_numerics(config: RunConfig) -> None:
    """Pin threads and choose deterministic kernels, so that a run gives the same tensors again."""
    threads = config.numerics.threads
    assert threads is not None, "pinned when the run was created"
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Deterministic mode also fills every tensor that is made empty, a tenth of a step's time, for the sake of code that
    # reads memory before it writes it. Nothing here does: kernels write the whole of their output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """All libraries compute in so many threads, and afterwards as before; None leaves them as they are."""
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def loader_workers(config: RunConfig, device: torch.device, team: Team = ALONE) -> int:
    """Loader processes of each process: as asked for, else up to 8 beside a GPU, and none where the processor does all
    the work.
    """
    asked = config.placement.loader_workers
    if asked is not None:
        return asked
    return max(1, min(8, (os.cpu_count() or 1) // team.local_size)) if device.type == "cuda" else 0

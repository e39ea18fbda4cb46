"""The processes that share a stage: this one alone, or those that torchrun or `stages.workers` started together.

They know each other by torchrun's environment variables. The first leads: it holds the lease, logs, saves and commits;
the others compute their share and write nothing but their own shards.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from schemas.errors import ConfigError
from schemas.stages import StageName

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]

    from cyborgs.distributed import World

MEETING_FILE = "CYBORGS_MEETING_FILE"
"""Environment variable: the file by which processes of one machine find each other; else MASTER_ADDR, as torchrun."""
SHARED_STAGES: tuple[StageName, ...] = ("warm-up", "bootstrap-masks", "train")
_POLL_SECONDS = 0.2
_STEP_TIMEOUT = timedelta(minutes=30)
"""How long one step may wait for another process."""


@dataclass(frozen=True)
class Team:
    """Who this process is among those that share a stage. Nobody waits in a collective while the leader works alone:
    what is not a step goes through a store of words, which every process polls and can stop polling.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """On this machine."""
    local_size: int = 1
    machine: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def meet(self) -> None:
        """Open the store of words; the leader does so before anything that may take long."""
        if self.size > 1:
            _ = self._store

    def tell(self, word: str, value: str = "") -> None:
        """Let the others hear a word."""
        if self.size > 1:
            from cyborgs.distributed import lost_peers

            with lost_peers():
                self._store.set(word, value)

    def hear(self, word: str, *, check: Callable[[], None] | None = None) -> str:
        """Wait until a word was told; `check` ends the wait by raising."""
        while (value := self.heard(word)) is None:
            if check is not None:
                check()
            time.sleep(_POLL_SECONDS)
        return value

    def heard(self, word: str) -> str | None:
        """What was told with a word, None where nothing was so far."""
        from cyborgs.distributed import lost_peers

        with lost_peers():
            return self._store.get(word).decode() if self._store.check([word]) else None

    def world(self, device: "torch.device") -> "World":
        """The same processes as those that share a step; they connect here, all of them together."""
        import torch.distributed as dist

        from cyborgs.distributed import World, lost_peers

        if self.size > 1 and not dist.is_initialized():
            # Words about stopping travel by gloo: they wait for no GPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            with lost_peers():
                dist.init_process_group(
                    backend,
                    store=dist.PrefixStore("steps", self._store),  # type: ignore[attr-defined]
                    rank=self.rank,
                    world_size=self.size,
                    timeout=_STEP_TIMEOUT,
                )
        return World(self.rank, self.size)

    def close(self) -> None:
        """Part from the others: each has had its share."""
        import torch.distributed as dist

        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag whether it is set on some process; asked on all of them at the same step, in one message."""
        if self.size == 1:
            return list(flags)
        import torch

        from cyborgs.distributed import World

        return [bool(count) for count in World(self.rank, self.size).sum(torch.tensor(flags, dtype=torch.int64))]

    @cached_property
    def _store(self) -> "Store":
        import torch.distributed as dist

        from cyborgs.distributed import lost_peers

        with lost_peers():
            if MEETING_FILE in os.environ:
                store: Store = dist.FileStore(os.environ[MEETING_FILE], self.size)  # type: ignore[attr-defined]
            else:
                store, _, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
            return dist.PrefixStore("words", store)  # type: ignore[attr-defined]


ALONE = Team()


def find_team() -> Team:
    """The team that this process was started in.

    Raises:
        ConfigError: the environment says only half of it.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Team()
    try:
        size = int(os.environ["WORLD_SIZE"])
        return Team(
            rank=int(os.environ["RANK"]),
            size=size,
            local_rank=int(os.environ.get("LOCAL_RANK", 0)),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            machine=int(os.environ.get("GROUP_RANK", 0)),
        )
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE or LOCAL_RANK of the environment: {error}; torchrun sets them") from None

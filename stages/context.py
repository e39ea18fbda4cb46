"""All that a stage is given: the run, its inputs, where to write, and how to tell what it does."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.artifacts import Manifest
from schemas.config import RunConfig
from schemas.digests import digest_bytes, seal, unseal
from schemas.errors import DataError
from schemas.plan import Step
from stages.heart import Heart
from stages.interruption import StopRequest
from stages.metrics_log import MetricsLog
from stages.progress import Progress
from stages.team import ALONE, Team
from stages.tracking.trackers import Trackers
from storage import layout
from storage.artifacts import Artifact, Standings, load_artifact
from storage.index import Photograph, photograph_reader, read_photographs
from storage.photographs import PhotographReader
from storage.run import Run

if TYPE_CHECKING:
    import torch

    from cyborgs.distributed import World


@dataclass(frozen=True)
class Outcome:
    """What a stage hands back for its manifest."""

    content: str
    """Content digest of what it wrote."""
    summary: dict[str, float | int | str]


@dataclass
class Context:
    """One attempt at one step."""

    run: Run
    step: Step
    key: str
    folder: str
    """Of the artifact, below the run."""
    standings: Standings
    stop: StopRequest
    team: Team = ALONE
    log: MetricsLog | None = None
    """None where another process leads, and for `heart`."""
    heart: Heart | None = None
    trackers: Trackers | None = None
    """None where there is no log."""
    warnings: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    """Name of a file of the artifact -> digest of what was written there, which the commit has to find."""
    used_device: str = "cpu"
    """For the manifest."""

    @property
    def config(self) -> RunConfig:
        """The run's settings."""
        return self.run.config

    @cached_property
    def device(self) -> "torch.device":
        """The device to compute on, threads and determinism set as the run says."""
        from stages.device import apply_numerics, choose_device

        device = choose_device(self.config.placement.device, self.team)
        apply_numerics(self.config)
        self.used_device = str(device)
        return device

    def progress(self, *, total: int, unit: str, done: int = 0, images_per_unit: int = 1) -> Progress:
        """Count units of work, for the person who looks and for the heartbeat; the process that leads tells."""
        tell = self.heart.at if self.heart is not None else None
        return Progress(self.step.name, total=total, unit=unit, done=done, images_per_unit=images_per_unit, tell=tell)

    @property
    def world(self) -> "World":
        """The processes that share a step, connected."""
        return self.team.world(self.device)

    def workspace(self, name: str) -> Path:
        """Local folder in which a folder of the artifact is made, or goes on being made."""
        return self.run.store.folder(f"{self.folder}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the artifact; never over that of a process that took the work over."""
        self._check_work()
        self.run.store.write(f"{self.folder}/{name}", data)
        self.written[name] = digest_bytes(data)

    def partial(self, name: str) -> str:
        """Path of a file of partial work, below the run."""
        return f"{self.folder}/{layout.PARTIAL}/{name}"

    def read_partial(self, name: str) -> bytes | None:
        """What an earlier attempt saved under that name; what is damaged is named and thrown away."""
        path = self.partial(name)
        try:
            data = unseal(self.run.store.read(path))
        except FileNotFoundError:
            return None
        if data is None:
            self.warn(f"{self.run.store.url}/{path} is damaged: thrown away, what it held is computed again")
            self.run.store.delete(path)
        return data

    def save_partial(self, name: str, data: bytes) -> None:
        """Keep something for the next attempt, with a digest: nothing else vouches for it before the commit."""
        self._check_work()
        self.run.store.write(self.partial(name), seal(data))

    def _check_work(self) -> None:
        if not self.stop.owns_work():
            self.stop.check()

    def input(self, role: str) -> Artifact:
        """The artifact that plays a role, digests checked."""
        return load_artifact(self.run, self.standings.input(dict(self.step.inputs)[role]))

    def optional_input(self, role: str) -> Artifact | None:
        """As `input`, None where this step has none in that role."""
        return self.input(role) if role in dict(self.step.inputs) else None

    def input_manifest(self, role: str) -> Manifest:
        """The manifest of the artifact that plays a role."""
        manifest = self.standings.input(dict(self.step.inputs)[role]).manifest
        assert manifest is not None
        return manifest

    def photographs(self) -> tuple[list[Photograph], PhotographReader]:
        """The images table, and what reads its pixels."""
        photographs = read_photographs(self.input("index"))
        if not photographs:
            raise DataError(f"run {self.run.store.url}: its index is empty")
        return photographs, photograph_reader(photographs, self.run.record.data)

    def record(self, step: int, values: Mapping[str, float | int]) -> None:
        """Log figures and show them to the trackers; the process that leads does.

        Args:
            step: training steps since the start of the run.
        """
        if self.trackers is not None:
            self.trackers.scalars(step, values)
        if self.log is not None:
            self.log.write(step, values)

    def warn(self, message: str) -> None:
        """Tell the person, and keep it beside the artifact."""
        self.warnings.append(message)
        print(f"warning: {message}", file=sys.stderr, flush=True)

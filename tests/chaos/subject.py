"""The run that is disturbed: small, real, several shards and saves; and the ways in which an attempt at it starts."""

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import draw_scenes

ROOT = Path(__file__).parents[2]
MARK = "CYBORGS_CHAOS"
"""Environment variable by which all processes of an attempt are found again, whoever their parent is by then."""
SAVE_SECONDS = 0.5
PHOTOGRAPHS = 36
CONFIG = f"""
network: {{architecture: resnet18, region_grid: 4, projector_hidden: 32, projection_dim: 16}}
augmentation: {{crop_size: 32, blur_kernel: 3, blur_sigma: [0.1, 0.6]}}
schedule: {{epochs: 6, warmup_epochs: 2, bootstrap_every_epochs: 4, checkpoint_epochs: [1, 3, 5]}}
optimization: {{optimizer: sgd, learning_rate: 0.01, batch_size: 4, lr_schedule: cosine, lr_warmup_epochs: 0.5}}
vmf: {{clusters: 4, iterations: 5}}
masks:
  {{layer: layer2.1, clusters: [2, 8], max_side: 96, images_per_group: 4, refresh_batch_norm: 2, rows_per_shard: 16}}
train: {{regions: 4, vmf_every_epochs: 2}}
evaluate: {{images: 16, pictures: 4}}
numerics: {{threads: 1}}
placement: {{log_every_steps: 1, checkpoint_every_minutes: {SAVE_SECONDS / 60}, launcher: process}}
"""
"""Two cycles of two epochs: 18 steps of warm-up, 18 of each training, 3 shards of masks."""

WAYS = {
    1: ("command, process", "loop, process", "loop, process, loaders", "command, inline", "loop, inline"),
    2: ("command, two processes", "loop, two processes", "torchrun"),
}
"""World size -> how an attempt is started. `command` is `cyborgs run`; `loop` is the flow's own loop without Prefect,
whose server costs as much time as all stages; `torchrun` goes stage by stage, as docs/distributed.md has it."""


@dataclass(frozen=True)
class Subject:
    """One run in a folder of its own, with cache and temporary files in folders that are looked at afterwards."""

    folder: Path
    photographs: Path
    config: Path
    world_size: int
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def url(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def environment(self, attempt: str) -> dict[str, str]:
        """Of all processes of an attempt."""
        return os.environ | {
            MARK: f"{self.identity}-{attempt}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "CYBORGS_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
        }

    def command(self, way: str) -> list[str]:
        """`cyborgs run`, or what stands in for it."""
        settings = [f"numerics.world_size={self.world_size}", f"placement.loader_workers={int('loaders' in way)}"]
        settings.append(f"placement.launcher={'inline' if 'inline' in way else 'process'}")
        where = [str(self.config), "--data", str(self.photographs), "--run", str(self.url)]
        if way.startswith("command"):
            return [str(Path(sys.executable).with_name("cyborgs")), "run", *where, "--set", *settings]
        kind = "torchrun" if way == "torchrun" else "loop"
        return [sys.executable, "-P", "-m", "tests.chaos.drive", kind, *where, "--set", *settings]

    def start(self, way: str, attempt: str) -> "subprocess.Popen[bytes]":
        """Start an attempt in a session of its own; what it says goes to a file."""
        words = (self.folder / f"attempt-{attempt}.txt").open("wb")
        with words:
            return subprocess.Popen(
                self.command(way),
                env=self.environment(attempt),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def words(self, attempt: str) -> str:
        """What an attempt said."""
        return (self.folder / f"attempt-{attempt}.txt").read_text(errors="replace")


def make_subject(folder: Path, *, world_size: int) -> Subject:
    """A subject that nothing has happened to."""
    for name in ("cache", "tmp"):
        (folder / name).mkdir(parents=True)
    config = folder / "chaos.yaml"
    config.write_text(CONFIG)
    photographs = folder.parent / "photographs"
    if not photographs.exists():
        draw_scenes(photographs, PHOTOGRAPHS)
    return Subject(folder, photographs, config, world_size)

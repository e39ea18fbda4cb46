"""What a step is told; plain values, so that the method needs no config of any run."""

from dataclasses import dataclass
from typing import Literal

from cyborgs.losses.vmf import Distance


@dataclass(frozen=True)
class Optimization:
    """How weights move over the run."""

    learning_rate: float
    lr_warmup_steps: int
    lr_schedule: Literal["step", "cosine"]
    lr_milestones: tuple[float, ...]
    lr_decay: float
    ema_momentum: float
    steps: int
    """Steps of the whole run, all stages together."""
    ema_schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True)
class VmfLoss:
    """The clustering consistency loss (equations 3 and 4)."""

    layers: tuple[str, ...]
    clusters: tuple[int, int]
    concentration: float
    distance: Distance
    branches: Literal["symmetric", "paper"]
    correspondence: Literal["geometric", "index"]
    iterations: int
    points_per_cluster: int


@dataclass(frozen=True)
class Contrast:
    """The mask loss (equation 2), and how the vMF loss joins it."""

    temperature: float
    vmf_weight: float
    vmf_update: Literal["joint", "separate"]

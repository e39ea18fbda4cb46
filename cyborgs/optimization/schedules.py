"""Learning rate and target momentum as pure functions of the step. Steps count from 0 over the whole run."""

import math
from collections.abc import Sequence
from typing import Literal


def learning_rate(
    step: int,
    *,
    peak: float,
    steps: int,
    warmup_steps: int,
    schedule: Literal["step", "cosine"],
    milestones: Sequence[float] = (),
    decay: float = 0.1,
) -> float:
    """Learning rate of a step.

    Linear growth peak (k + 1) / n over the first n = `warmup_steps`; then `peak`, multiplied by `decay` at each
    milestone (a share of the run), or half a cosine from `peak` towards 0 at the end of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "step":
        return peak * float(decay ** sum(step >= round(share * steps) for share in milestones))
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def ema_momentum(step: int, *, start: float, steps: int) -> float:
    """Momentum of the target network after a step: from `start` to 1 by a cosine over the run (BYOL).

    Short runs start at 1 - 8 / steps where that is lower, or the target would never leave its start.
    """
    slack = max(1 - start, min(1.0, 8 / steps))
    return 1 - slack * (1 + math.cos(math.pi * step / steps)) / 2

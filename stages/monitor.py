"""The learning monitor: figures that tell of trouble early, and a named warning where they stay bad."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

SUSTAINED = 20
"""Logged steps in a row for which a figure has to be bad before it is said."""
LOSSES = ("mask_loss", "loss")
"""What is watched for divergence: the first that a stage logs. `loss` alone jumps where the vMF loss joins in."""
RISE, MARGIN = 1.5, 1.0
"""A loss diverges above RISE times its lowest mean plus MARGIN: a loss near 0 may rise by itself, as BYOL's does."""


@dataclass(frozen=True)
class Alarm:
    """A figure of the metrics log, and when it is bad."""

    name: str
    figure: str
    threshold: float
    advice: str
    too_high: bool = False
    """Bad above the threshold; else below it."""

    def is_bad(self, value: float) -> bool:
        """Whether the figure is beyond the threshold."""
        return value > self.threshold if self.too_high else value < self.threshold


ALARMS = (
    Alarm(
        "collapse",
        "projection_std",
        0.3,
        "the target projections are nearly alike (1 is spread out): try a lower optimization.learning_rate, "
        "a higher train.temperature, or an optimization.ema_momentum closer to 1",
    ),
    Alarm(
        "orphans",
        "orphans",
        0.9,
        "hardly any region is found again in the other view: lower masks.clusters, "
        "or raise the lower end of augmentation.crop_area",
        too_high=True,
    ),
)
"""As docs/method.md has them. A figure that a stage does not log is not judged."""
DIVERGENCE = "divergence"


class Monitor:
    """Looks at every logged step; an alarm sounds when its figure has been bad for SUSTAINED of them in a row, and
    then no more.

    Args:
        judge_loss_from: steps of the run before this one say nothing of the loss: a queue of keys is being filled, and
            the loss rises with it.
    """

    def __init__(self, alarms: tuple[Alarm, ...] = ALARMS, *, judge_loss_from: int = 0) -> None:
        self._alarms, self._judge_loss_from = alarms, judge_loss_from
        self._sounded: set[str] = set()
        self._bad = dict.fromkeys((alarm.name for alarm in alarms), 0)
        self._losses: deque[float] = deque(maxlen=SUSTAINED)
        self._lowest = math.inf

    def look(self, metrics: Mapping[str, float], step: int) -> dict[str, str]:
        """Judge the figures that were logged at a step; the alarms that sound at it, name -> in words."""
        sounding = {}
        for alarm in self._alarms:
            value = metrics.get(alarm.figure)
            if value is None:
                continue
            self._bad[alarm.name] = self._bad[alarm.name] + 1 if alarm.is_bad(value) else 0
            if self._bad[alarm.name] == SUSTAINED:
                sounding[alarm.name] = (
                    f"{alarm.name}: {alarm.figure} is {value:.3f} at step {step}, and was as bad "
                    f"for {SUSTAINED} logged steps: {alarm.advice}"
                )
        figure = next((name for name in LOSSES if name in metrics), None)
        if figure is not None and step >= self._judge_loss_from and self._diverges(metrics[figure]):
            sounding[DIVERGENCE] = (
                f"{DIVERGENCE}: {figure} is {self._mean():.3f} on average over the {SUSTAINED} logged steps up to step "
                f"{step}, and was {self._lowest:.3f}: try a lower optimization.learning_rate or more "
                "optimization.lr_warmup_epochs"
            )
        sounding = {name: words for name, words in sounding.items() if name not in self._sounded}
        self._sounded |= sounding.keys()
        return sounding

    def _diverges(self, loss: float) -> bool:
        self._losses.append(loss)
        if len(self._losses) < SUSTAINED:
            return False
        self._lowest = min(self._lowest, self._mean())
        return self._mean() > RISE * self._lowest + MARGIN

    def _mean(self) -> float:
        return math.fsum(self._losses) / len(self._losses)

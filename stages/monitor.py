"""The learning monitor: figures that tell of trouble early, and a named warning where they stay bad."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

SUSTAINED = 20
"""Logged steps in a row for which a figure has to be bad before it is said."""


@dataclass(frozen=True)
class Alarm:
    """A figure of the metrics log, and when it is bad."""

    name: str
    figure: str
    is_bad: Callable[[float], bool]
    advice: str


ALARMS = (
    Alarm(
        "collapse",
        "projection_std",
        lambda value: value < 0.3,
        "the target projections are nearly alike (1 is spread out): try a lower optimization.learning_rate, "
        "a higher train.temperature, or an optimization.ema_momentum closer to 1",
    ),
    Alarm(
        "orphans",
        "orphans",
        lambda value: value > 0.9,
        "hardly any region is found again in the other view: lower masks.clusters, "
        "or raise the lower end of augmentation.crop_area",
    ),
)
"""As docs/method.md has them. A figure that a stage does not log is not judged."""


class Monitor:
    """Looks at every logged step; warns once when a figure has been bad for SUSTAINED of them in a row."""

    def __init__(self, warn: Callable[[str], None], alarms: tuple[Alarm, ...] = ALARMS) -> None:
        self._warn, self._alarms = warn, alarms
        self._bad = dict.fromkeys((alarm.name for alarm in alarms), 0)

    def look(self, metrics: Mapping[str, float], step: int) -> None:
        """Judge the figures that were logged at a step."""
        for alarm in self._alarms:
            value = metrics.get(alarm.figure)
            if value is None:
                continue
            self._bad[alarm.name] = self._bad[alarm.name] + 1 if alarm.is_bad(value) else 0
            if self._bad[alarm.name] == SUSTAINED:
                self._warn(
                    f"{alarm.name}: {alarm.figure} is {value:.3f} at step {step}, and was as bad "
                    f"for {SUSTAINED} logged steps: {alarm.advice}"
                )

"""A running stage's sign of life: a small file that it writes again every few seconds and removes at its end.

Judged by whether it changes while somebody looks, never by comparing clocks of two machines.
"""

import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.plan import Step
from storage import layout
from storage.run import Run

BEAT_SECONDS = 5.0
"""How often a stage shows that it lives."""


class Heartbeat(BaseModel):
    """What a stage says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: str
    """Tells the attempts at a step apart: host, process and start."""
    beat: int
    """Counts up; a heartbeat that is read twice the same may be a dead stage's."""
    unit: str = "step"
    done: int = 0
    total: int = 0
    figures: str = ""
    """Such as `loss 2.831  12.1 images/s  3:20 min left`."""

    @property
    def position(self) -> str:
        """Such as `step 40/120  loss 2.831`."""
        return f"{self.unit} {self.done}/{self.total}  {self.figures}".rstrip() if self.total else ""


def read_heartbeat(run: Run, step: Step) -> Heartbeat | None:
    """The last heartbeat of a step; None where no attempt is under way."""
    try:
        return Heartbeat.model_validate_json(run.store.read(layout.heartbeat(step)))
    except (OSError, ValidationError):
        return None


def write_heartbeat(run: Run, step: Step, beat: Heartbeat) -> None:
    """Replace the heartbeat of a step."""
    run.store.write(layout.heartbeat(step), beat.model_dump_json().encode())


class Pulse:
    """Looks at a step's heartbeat again and again, and knows how long it has not changed."""

    def __init__(self, run: Run, step: Step, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._step, self._clock = run, step, clock
        self._changed = clock()
        self.last = read_heartbeat(run, step)
        self.furthest = self.last.done if self.last is not None else 0
        """The largest count of units done that was seen."""

    def look(self) -> Heartbeat | None:
        """Read the heartbeat; None where no attempt is under way."""
        seen = read_heartbeat(self._run, self._step)
        if seen != self.last:
            self._changed, self.last = self._clock(), seen
            self.furthest = max(self.furthest, seen.done if seen is not None else 0)
        return seen

    def rest(self) -> None:
        """Count the silence from now on."""
        self._changed = self._clock()

    @property
    def silence(self) -> float:
        """Seconds since it was last seen to change."""
        return self._clock() - self._changed

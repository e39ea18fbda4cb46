"""What a launcher sees of the stage that it started, and whom it tells."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.plan import Step
from storage.heartbeat import Heartbeat, Pulse
from storage.run import Run


def print_line(message: str) -> None:
    """A line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


@dataclass
class Watch:
    """One step under a launcher's eyes."""

    run: Run
    step: Step
    say: Callable[[str], None] = print_line
    """Takes a line for people."""
    show: Callable[[Heartbeat], None] = lambda _beat: None
    """Takes every new heartbeat."""
    finish: Callable[[], None] = lambda: None
    """Called when the stage is done."""
    capture: bool = False
    """Whether the stage's own lines go through `say` too, instead of straight to this process's terminal."""
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.run, self.step)

    def look(self) -> None:
        """Look at the heartbeat and pass a new one on."""
        before = self.pulse.last
        seen = self.pulse.look()
        if seen is not None and seen != before:
            self.show(seen)

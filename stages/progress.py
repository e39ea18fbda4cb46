"""What a person sees of a running stage: a live bar on a terminal, plain lines with the same figures elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

_PLAIN_EVERY_SECONDS = 10.0
_RATE_WINDOW_SECONDS = 30.0


class Progress:
    """Counts units of work (steps, photographs) and shows rate and time left.

    Args:
        tell: is told of every advance: the unit, how many are done, of how many, and the figures as text; None where
            nobody is to be told or shown anything.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        unit: str,
        tell: Callable[..., None] | None,
        done: int = 0,
        images_per_unit: int = 1,
    ) -> None:
        self._name, self._total, self._done, self._unit = name, total, done, unit
        self._images_per_unit, self._tell = images_per_unit, tell
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), done)])
        self._figures: dict[str, str] = {}
        self._shown = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and tell is not None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskID, TextColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[figures]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task: TaskID = self._bar.add_task(name, total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done == self._total and kind is None and self._tell is not None:
            self._print_line()

    def advance(self, units: int = 1, /, **figures: float | str) -> None:
        """So much more is done; `figures` such as loss are shown beside it until replaced."""
        self._done += units
        if self._tell is None:
            return
        self._figures |= {k: v if isinstance(v, str) else f"{v:.3f}" for k, v in figures.items()}
        now = time.monotonic()
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW_SECONDS:
            self._marks.popleft()
        text = self._text()
        self._tell(unit=self._unit, done=self._done, total=self._total, figures=text)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, figures=text)
        elif now - self._shown >= _PLAIN_EVERY_SECONDS and self._done < self._total:
            self._print_line()
            self._shown = now

    def _text(self) -> str:
        (since, before), (now, done) = self._marks[0], self._marks[-1]
        rate = (done - before) / (now - since) if now > since else 0.0
        parts = [f"{name} {value}" for name, value in self._figures.items()]
        parts.append(f"{rate * self._images_per_unit:.1f} images/s")
        if rate > 0:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        return "  ".join(parts)

    def _print_line(self) -> None:
        print(
            f"{self._name}  {self._unit} {self._done}/{self._total}  {self._text()}",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """Seconds as `12 s`, `3:05 min` or `2:10:00 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"

"""The metrics log: one JSON line per logged step, files of their own for each attempt, read back as one series."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from schemas.digests import digest_json
from schemas.plan import Step
from storage import layout
from storage.run import Run

_CHECK = "check"
"""Closes each line: a digest of the rest of it."""


class MetricsLog:
    """Appends lines; each is written whole, so a killed attempt leaves at most one cut line at the end."""

    def __init__(self, run: Run, step: Step, key: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._lines = run.store.appender(f"{layout.log_folder(step)}/{key}-{stamp}-{os.getpid()}.jsonl")

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """Log the values of a step."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        line = {"step": step, **rounded}
        self._lines.write(json.dumps(line | {_CHECK: _check(line)}))

    def flush(self) -> None:
        """Let what was logged so far outlive this process: before a state is saved that goes on from here."""
        self._lines.flush()

    def close(self) -> None:
        """End of the attempt; an attempt that logged nothing leaves no file."""
        self._lines.close()


def read_metrics(run: Run, step: Step, key: str) -> list[dict[str, Any]]:
    """All logged steps of an artifact, in order, each once: where attempts overlap the later one counts. A line that
    is no longer what was written, or was cut when an attempt was killed, is left out.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for path in run.store.list(layout.log_folder(step)):
        if not path.rsplit("/", 1)[-1].startswith(f"{key}-") or not path.endswith(".jsonl"):
            continue
        for line in run.store.read(path).splitlines():
            values = _decode(line)
            if values is not None:
                by_step[values["step"]] = values
    return [by_step[number] for number in sorted(by_step)]


def last_logged(run: Run, step: Step, key: str) -> int:
    """The last step that attempts at an artifact have logged; -1 where none has."""
    return max((line["step"] for line in read_metrics(run, step, key)), default=-1)


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
        # The first versions wrote no checks.
        check = values.pop(_CHECK, None)
        return values if "step" in values and check in (None, _check(values)) else None
    except (ValueError, TypeError, AttributeError):
        return None


def _check(values: Mapping[str, Any]) -> str:
    return digest_json(values)[:8]

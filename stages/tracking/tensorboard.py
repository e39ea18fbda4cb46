"""TensorBoard: event files in the run, `tensorboard --logdir RUN/logs/tensorboard`.

Written here and not by torch's SummaryWriter, whose thread tells of a full disk by a traceback, and too late.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from schemas.errors import ConfigError
from stages.tracking.tracker import Tracked

_FORMAT = "brain.Event:2"
"""Opens every event file; from 2 on, `SessionLog` says from which step on earlier files do not count."""


class TensorBoard:
    """The event file of one attempt.

    Args:
        first_step: what earlier attempts wrote from here on is not shown any more.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(file_version=_FORMAT)
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write them at once: the metrics log, which tells a later attempt what was shown, does so too."""
        shown = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=shown))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **what: object) -> None:
        try:
            self._records.write(Event(wall_time=time.time(), **what).SerializeToString())
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # it tries to write once more
                self._file.close()
            raise


def open_tracker(tracked: Tracked, first_step: int) -> TensorBoard:
    """Start a file of events.

    Raises:
        ConfigError: the run is not on a disk.
    """
    if tracked.logs is None:
        raise ConfigError("it reads folders on a disk, and this run is not on one")
    # Files of a folder are read in the order of their names.
    name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}{tracked.artifact}"
    return TensorBoard(tracked.logs / tracked.stage / name, first_step=first_step)

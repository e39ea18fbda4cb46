"""Reading back what trackers keep on a disk."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from stages.metrics_log import read_metrics
from storage.artifacts import Standings
from storage.run import open_run

Curves = dict[str, list[tuple[int, float]]]
"""Name -> (step, value) in the order in which they are shown."""
_BLOCK = 32768


def logged(url: Path, name: str) -> Curves:
    """What the metrics log of a step has, as trackers name it."""
    run = open_run(str(url))
    found = Standings(run).input(name)
    curves: Curves = defaultdict(list)
    for line in read_metrics(run, found.step, str(found.key)):
        step = line.pop("step")
        for figure, value in line.items():
            curves[f"{found.step.stage}/{figure}"].append((step, value))
    return dict(curves)


def events(folder: Path) -> Curves:
    """What TensorBoard shows of a folder."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def offline(folder: Path) -> tuple[set[str], Curves]:
    """Ids of the runs that W&B wrote offline, and what it would send, by our steps."""
    ids, curves = set[str](), defaultdict[str, list[tuple[int, float]]](list)
    for file in sorted(folder.rglob("*.wandb")):
        for data in _records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            items = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
            for name, value in items.items():
                if "/" in name:
                    curves[name].append((items["step"], value))
    return ids, dict(curves)


def _records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log format: (checksum, length, kind), blocks of 32 kB, a header of 7 bytes before the first."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""

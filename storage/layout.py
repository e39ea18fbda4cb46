"""Where things stand in a run. Each path is made in exactly one function."""

import re

from schemas.plan import Step
from schemas.stages import CYCLE_STAGES, STAGE_NAMES, StageName

RUN_RECORD = "run.json"
RECORD_COPIES = "history"
"""Folder of a copy of each version of run.json."""
MANIFEST = "manifest.json"
PARTIAL = "partial"
LEASE = "lease"
THINNED = "thinned.json"
"""Beside a manifest: its files that placement.keep_checkpoints let go."""
REPORT = "report/index.html"

_FOLDERS: dict[StageName, str] = {
    "index-images": "index",
    "warm-up": "warm-up",
    "bootstrap-masks": "masks",
    "train": "train",
    "evaluate": "evaluate",
}

_RUN_FOLDERS = {_FOLDERS[stage] for stage in STAGE_NAMES if stage not in CYCLE_STAGES}
_CYCLE_FOLDERS = {_FOLDERS[stage] for stage in CYCLE_STAGES}

MASKS = "masks.zarr"
MODEL = "model.safetensors"
TRAINING_STATE = "training_state.safetensors"
CHECKPOINT_FILES = (MODEL, TRAINING_STATE)
METRICS = "metrics.json"
PROTOCOLS = "protocols"
"""Folder of an evaluation: what each protocol measured."""
PHOTOGRAPHS = "photographs.csv"
QUARANTINE = "quarantine.csv"
IMAGES_TABLES = f"{_FOLDERS['index-images']}/*/{PHOTOGRAPHS}"
"""Pattern of the images tables of a run."""


_EVENTS = re.compile(r"events\.out\.tfevents\..*\.([a-z-]+(?:-cycle-\d+)?)\.([0-9a-f]+)")


def record_copy(changes: int) -> str:
    """The copy of run.json after so many changes: `history/run-00002.json`."""
    return f"{RECORD_COPIES}/run-{changes:05d}.json"


def number_of_copy(path: str) -> int | None:
    """After how many changes a copy of run.json was made; None of other files."""
    found = re.fullmatch(rf"{RECORD_COPIES}/run-(\d+)\.json", path)
    return int(found[1]) if found else None


def cycle_folder(cycle: int) -> str:
    """Folder of a cycle: `cycle-002`."""
    return f"cycle-{cycle:03d}"


def step_folder(step: Step) -> str:
    """Folder of all artifacts of a step: `cycle-002/masks`."""
    folder = _FOLDERS[step.stage]
    return folder if step.cycle is None else f"{cycle_folder(step.cycle)}/{folder}"


def artifact_folder(step: Step, key: str) -> str:
    """Folder of one artifact: `cycle-002/masks/<key>`."""
    return f"{step_folder(step)}/{key}"


def artifact_of(path: str) -> str | None:
    """The artifact's folder that a file of the run lies in; None for what belongs to no artifact."""
    parts = path.split("/")
    depth = 3 if parts[0].startswith("cycle-") else 2
    if len(parts) <= depth:
        return None
    step = parts[depth - 2]
    known = _CYCLE_FOLDERS if depth == 3 else _RUN_FOLDERS
    return "/".join(parts[:depth]) if step in known else None


def log_of(path: str) -> tuple[str, str] | None:
    """Of a metrics log, or a TensorBoard event file, the artifact it was written for: the folder of its step's logs,
    and its key.
    """
    parts = path.split("/")
    if len(parts) == 4 and path.startswith(f"{tracker_folder('tensorboard')}/"):
        events = _EVENTS.fullmatch(parts[3])
        return (f"logs/{events[1]}", events[2]) if events else None
    if len(parts) != 3 or parts[0] != "logs" or not parts[2].endswith(".jsonl"):
        return None
    return "/".join(parts[:2]), parts[2].split("-", 1)[0]


def masks_pointer(cycle: int) -> str:
    """The link that leads people to today's masks of a cycle: `cycle-002/masks.zarr`."""
    return f"{cycle_folder(cycle)}/{MASKS}"


def checkpoint_name(epoch: int) -> str:
    """File of a backbone kept inside a segment, after so many epochs."""
    return f"checkpoints/epoch-{epoch:05d}.safetensors"


def protocol_file(title: str, epoch: int | None = None) -> str:
    """File of an evaluation: what was measured at its end, or of a backbone kept after so many epochs."""
    return f"{PROTOCOLS}/{title}.json" if epoch is None else f"{PROTOCOLS}/{title}-epoch-{epoch:05d}.json"


def read_protocol_file(path: str) -> tuple[str, int | None]:
    """Title and epoch in the name of such a file."""
    named = re.fullmatch(r"(.+?)(?:-epoch-(\d+))?\.json", path.rpartition("/")[2])
    assert named is not None, path
    return named[1], int(named[2]) if named[2] else None


def log_folder(step: Step) -> str:
    """Folder of a step's logs, one file per attempt: `logs/train-cycle-002`."""
    return "logs/" + step.stage + ("" if step.cycle is None else f"-{cycle_folder(step.cycle)}")


def tracker_folder(tracker: str) -> str:
    """Folder of what a tracker keeps in the run, beside the logs: `logs/tensorboard`."""
    return f"logs/{tracker}"


def event_folder(step: Step) -> str:
    """Folder of TensorBoard's event files of all cycles of a stage, one curve: `logs/tensorboard/train`."""
    return f"{tracker_folder('tensorboard')}/{step.stage}"


def event_suffix(step: Step, key: str) -> str:
    """Ends the name of an event file: `.train-cycle-002.<key>`."""
    return f".{log_folder(step).rpartition('/')[2]}.{key}"


def pause_note(step: Step) -> str:
    """Says, until somebody was told, that a run is to stop for a look after this step; holds the artifact's key."""
    return f"{log_folder(step)}/pause"


def alarm_note(step: Step) -> str:
    """Says at which alarms of the learning monitor this step paused."""
    return f"{log_folder(step)}/alarm"


def heartbeat(step: Step) -> str:
    """A running stage's sign of life, beside its logs."""
    return f"{log_folder(step)}/heartbeat.json"

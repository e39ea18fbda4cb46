"""What a run on storage shows from outside: the stage under way, how far it was, what was saved, what was left over."""

import json
from dataclasses import dataclass
from pathlib import Path

from schemas.plan import Step
from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import Standing, Standings
from storage.run import Run, find_run, open_run, record_copies
from tests.chaos.subject import PHOTOGRAPHS, SAVE_SECONDS, Subject

STEPS_PER_EPOCH = PHOTOGRAPHS // 4


def open_subject(subject: Subject) -> Run | None:
    """The run, None before it was made."""
    return find_run(str(subject.url))


def under_way(run: Run) -> Standing | None:
    """The step whose lease is held just now."""
    for found in Standings(run).all():
        if found.state != "done":
            return found if found.folder and is_held(run, found.folder) else None
    return None


def is_held(run: Run, folder: str) -> bool:
    """Whether somebody computes the artifact of that folder."""
    return run.store.holder(f"{folder}/{layout.LEASE}") is not None


@dataclass(frozen=True)
class Progress:
    """How far a training was, as its log says, and the step of its last save."""

    found: Standing
    reached: int
    saved: int
    seconds: tuple[float, ...]
    """Of each logged step after the save."""

    @property
    def lost(self) -> float:
        """Seconds of work that have to be done again."""
        return sum(self.seconds)

    @property
    def within_one_interval(self) -> bool:
        """A save is due after the first step that ends later than the interval. The first step after a save is logged
        with the time of the save, and the last may have ended just before its own save.
        """
        return sum(self.seconds[1:-1]) <= SAVE_SECONDS


def progress(run: Run, found: Standing) -> Progress | None:
    """Of a training that was killed; None of other stages, and of one that came to its end all the same."""
    if found.step.stage not in ("warm-up", "train") or found.key is None:
        return None
    if Standings(run).of(found.step).state == "done":  # its orphan finished it, and threw its saves away
        return None
    first = found.step.first_epoch * STEPS_PER_EPOCH
    state = run.store.root / found.folder / layout.PARTIAL / "state"  # type: ignore[attr-defined]
    saved = _saved_step(state) if state.exists() else first
    logs = sorted((run.store.root / layout.log_folder(found.step)).glob(f"{found.key}-*.jsonl"))  # type: ignore[attr-defined]
    lines = _lines(logs[-1]) if logs else []
    after = [line for line in lines if line["step"] > saved]
    reached = max((line["step"] for line in lines), default=saved)
    return Progress(found, max(reached, saved), saved, tuple(4 / line["images_per_second"] for line in after))


def _saved_step(state: Path) -> int:
    with state.open("rb") as file:
        start = file.read(1 << 16)
    at = start.index(b'\\"step\\":') + len(b'\\"step\\":')
    return int(start[at : at + 12].split(b"}")[0].split(b",")[0])


def _lines(log: Path) -> list[dict[str, float]]:
    lines = []
    for line in log.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def finished_shards(run: Run, found: Standing) -> dict[Path, int]:
    """Shards of masks that are marked as done, with the time at which each was written."""
    if found.step.stage != "bootstrap-masks" or found.folder is None:
        return {}
    folder = run.store.root / found.folder  # type: ignore[attr-defined]
    shards = {}
    for marker in (folder / layout.PARTIAL).glob("shard-[0-9]*"):
        number = int(marker.name.split("-")[1]) // 16
        file = folder / layout.MASKS / "labels" / "c" / str(number) / "0" / "0"
        if file.exists():
            shards[file] = file.stat().st_mtime_ns
    return shards


def leftovers(subject: Subject) -> list[str]:
    """Files that neither a manifest nor a name accounts for, and folders of partial work."""
    known = accounted_for(open_run(str(subject.url)))
    left = [
        str(path.relative_to(subject.folder))
        for path in subject.url.rglob("*")
        if path.name == layout.PARTIAL
        or ((path.is_symlink() or path.is_file()) and path.relative_to(subject.url).as_posix() not in known)
    ]
    for folder in (subject.cache, subject.temporary):
        # torchrun's agent makes a folder for its logs, torch one for what it compiles, and they leave them.
        left += [
            str(path.relative_to(subject.folder))
            for path in folder.rglob("*")
            if not path.relative_to(folder).parts[0].startswith("torch") and path != subject.cache / "masks"
        ]
    return left


def accounted_for(run: Run) -> set[str]:
    """Every file that a finished run consists of: the record and its copies, what manifests name, logs, the report."""
    known = {layout.RUN_RECORD, layout.REPORT, *record_copies(run.store)}
    for found in Standings(run).all():
        assert found.manifest is not None, found.step.name
        known |= {f"{found.folder}/{name}" for name in (layout.MANIFEST, *(file.path for file in found.manifest.files))}
        prefix = f"{layout.log_folder(found.step)}/{found.key}-"
        known |= {path for path in run.store.list(layout.log_folder(found.step)) if path.startswith(prefix)}
        assert found.key is not None
        suffix = layout.event_suffix(found.step, found.key)
        known |= {path for path in run.store.list(layout.event_folder(found.step)) if path.endswith(suffix)}
        if found.step.stage == "bootstrap-masks" and found.step.cycle is not None:
            known.add(layout.masks_pointer(found.step.cycle))
    return known


def logged_steps(run: Run, step: Step, key: str) -> list[int]:
    """Steps of the metrics log as it is read back."""
    return [int(line["step"]) for line in read_metrics(run, step, key)]

"""What the report shows, read from a run's storage, as one tree of plain values for the page's script."""

from typing import Any

import yaml

from cyborgs.colours import label_colours
from schemas.config import RunConfig
from schemas.loading import load_config
from schemas.plan import Step, makes_masks, plan
from stages.report.curves import evaluations, health, training_curves
from stages.report.evaluated import read_evaluations
from stages.report.memory import Memory
from stages.report.pictures import pictures
from storage import layout
from storage.alarms import AlarmNote, note_of
from storage.artifacts import Standing, Standings, fingerprint
from storage.heartbeat import read_heartbeat
from storage.run import Run, defines_result, difference

Tree = dict[str, Any]
PAPER = "coco"
"""The config with the paper's values."""


def report_data(run: Run, *, with_pictures: bool = True, memory: Memory | None = None) -> Tree:
    """Everything that the page shows. Nothing of the run is changed; what is damaged is said and left out.

    Args:
        with_pictures: photographs and masks too, which are most of it and change with the artifacts alone.
        memory: of who asks again and again.
    """
    memory = memory or Memory()
    standings = Standings(run).all()
    notes = {
        found.step.name: note_of(run, found.step, found.key)
        for found in standings
        if found.manifest is None and found.key is not None
    }
    evaluated, damage = read_evaluations(run, standings, memory)
    shown, missing = pictures(run, standings, evaluated, memory) if with_pictures else (None, [])
    record = run.record
    tree: Tree = {
        "run": {
            "url": run.store.url,
            "place": run.store.url.rstrip("/").rsplit("/", 1)[-1],
            "name": record.name,
            "photographs": record.photographs,
            "network": f"{record.config.network.architecture}, {record.config.augmentation.crop_size} px",
            "epochs": record.config.schedule.epochs,
            "seed": record.config.seed,
            "created": _moment(record.created.created),
            "masks": makes_masks(record.config, 0),
        },
        "fingerprint": fingerprint(standings),
        "stages": [_stage(run, found, notes.get(found.step.name)) for found in standings],
        "warnings": [*damage, *missing, *_warnings(standings, notes)],
        "health": health(standings, evaluated),
        "curves": training_curves(run, standings, memory),
        "evaluations": evaluations(evaluated),
        "lineage": _lineage(run, standings),
        "differences": _differences(record.config),
        "config": yaml.safe_dump(record.config.model_dump(mode="json"), sort_keys=False),
        "palette": label_colours().tolist(),
    }
    return tree | {"pictures": shown} if shown is not None else tree


def _warnings(standings: list[Standing], notes: dict[str, AlarmNote]) -> list[Tree]:
    """What manifests say, and the alarms of what has none yet."""
    rows = []
    for found in standings:
        if found.manifest is not None:
            lines = list(found.manifest.provenance.warnings)
        elif (note := notes.get(found.step.name)) is not None:
            lines = [words for words in note.sounded.values() if words not in note.paused]
            lines += [f"paused at {note.paused}; the same command goes on"] if note.paused else []
        else:
            continue
        rows += [{"stage": found.step.name, "text": line} for line in lines]
    return rows


def _stage(run: Run, found: Standing, note: AlarmNote | None) -> Tree:
    manifest = found.manifest
    row: Tree = {"name": found.step.name, "stage": found.step.stage, "cycle": found.step.cycle, "state": found.state}
    if manifest is not None:
        made = manifest.provenance
        return row | {
            "finished": _moment(made.created),
            "seconds": made.seconds,
            "where": f"{made.host}, {made.device}",
            "figures": dict(manifest.summary),
        }
    holder = run.store.holder(f"{found.folder}/{layout.LEASE}") if found.folder is not None else None
    beat = read_heartbeat(run, found.step) if holder is not None else None
    if holder is not None:
        row |= {"state": "running", "where": holder, "progress": beat.position if beat is not None else ""}
    elif note is not None and note.paused:
        row["state"] = "paused"
    if beat is not None and beat.total:
        row["share"] = beat.done / beat.total
    if found.problem is not None:
        row["problem"] = found.problem
    return row


def _moment(created: str) -> str:
    """UTC to the second, for people."""
    return created.replace("T", " ")[:19] + " UTC"


def _lineage(run: Run, standings: list[Standing]) -> list[Tree]:
    """From the photographs to the backbone: each artifact with its key, its content and what it was made from."""
    rows: list[Tree] = [
        {"name": what, "digest": digest, "from": [], "place": ", ".join(_given(run, what))}
        for what, digest in run.record.pins.items()
    ]
    by_name = {found.step.name: found for found in standings}
    for step in plan(run.config):
        found = by_name[step.name]
        if found.manifest is None or step.stage == "evaluate":
            continue
        rows.append(
            {
                "name": step.name,
                "digest": found.manifest.content,
                "from": [*_pinned(run, step), *(name for _, name in step.inputs)],
                "place": found.folder,
                "code": found.manifest.provenance.code,
            }
        )
    trained = [found for found in standings if found.step.stage == "train" and found.manifest]
    if trained and trained[-1].manifest is not None:
        files = {entry.path: entry.digest for entry in trained[-1].manifest.files}
        rows.append(
            {
                "name": "backbone",
                "digest": files.get(layout.MODEL, ""),
                "from": [trained[-1].step.name],
                "place": f"{trained[-1].folder}/{layout.MODEL}",
            }
        )
    return rows


def _given(run: Run, what: str) -> tuple[str, ...]:
    """Where something that came from outside was found."""
    record = run.record
    return {"photographs": record.data, "start": (record.start or "",), "masks": record.masks}.get(what, ())


def _pinned(run: Run, step: Step) -> list[str]:
    wanted = {"index-images": "photographs", "warm-up": "start", "bootstrap-masks": "masks"}.get(step.stage)
    return [wanted] if wanted in run.record.pins else []


def _differences(config: RunConfig) -> list[Tree]:
    """Settings that define the result and are not the paper's."""
    changes = difference(load_config(PAPER, []), config)
    return [
        {"setting": setting, "here": _shown(here), "paper": _shown(paper)}
        for setting, (paper, here) in changes.items()
        if defines_result(setting)
    ]


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()

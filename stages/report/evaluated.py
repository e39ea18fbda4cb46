"""What each `evaluate` of a run left, read once and held against its manifest."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from schemas.artifacts import Manifest
from schemas.errors import DamagedArtifactError
from schemas.plan import Step
from schemas.results import ProtocolResult, SkippedProtocol
from stages.report.memory import Memory
from storage import layout
from storage.artifacts import Standing, view_artifact
from storage.run import Run

Tree = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that is whole."""

    step: Step
    folder: str
    manifest: Manifest
    metrics: dict[str, float]
    results: list[tuple[int, str, ProtocolResult]]
    """Epochs after which the measured backbone was kept, in order, the measurement's title, and what came out."""


def read_evaluations(run: Run, standings: list[Standing], memory: Memory) -> tuple[list[Evaluated], list[Tree]]:
    """The evaluations that are done, in order; of those that are damaged a warning each instead."""
    read = [
        memory.recall(found.step.name, found.manifest, partial(_read, run, found))
        for found in standings
        if found.step.stage == "evaluate" and found.manifest is not None
    ]
    return [each for each in read if isinstance(each, Evaluated)], [each for each in read if isinstance(each, dict)]


def damaged(found: Standing, error: DamagedArtifactError) -> Tree:
    """The warning that something of a step is left out of the report."""
    return {"stage": found.step.name, "text": str(error)}


def _read(run: Run, found: Standing) -> Evaluated | Tree:
    try:
        artifact = view_artifact(run, found)
    except DamagedArtifactError as error:
        return damaged(found, error)
    metrics = json.loads(run.store.read(f"{artifact.folder}/{layout.METRICS}"))
    results = []
    for entry in artifact.manifest.files:
        if not entry.path.startswith(f"{layout.PROTOCOLS}/"):
            continue
        text = run.store.read(f"{artifact.folder}/{entry.path}")
        if SkippedProtocol.read(text) is None:
            title, epoch = layout.read_protocol_file(entry.path)
            results.append((epoch or found.step.last_epoch, title, ProtocolResult.model_validate_json(text)))
    results.sort(key=lambda each: each[0])
    return Evaluated(found.step, artifact.folder, artifact.manifest, metrics, results)

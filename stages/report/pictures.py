"""Photographs and label maps of the report, as data URLs: what `evaluate` drew, and before it has, the masks' store."""

import base64
import io
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.artifacts import FileEntry
from schemas.errors import DamagedArtifactError, DataError, UnreachableError
from stages.figures import FIGURES, masks_row, photograph_jpeg, photograph_row, read_labels
from stages.report.evaluated import Evaluated, damaged
from stages.report.memory import Memory
from storage import layout
from storage.artifacts import Standing, view_artifact
from storage.index import Photograph, photograph_reader, read_photographs
from storage.local import LocalStore
from storage.photographs import encode_key
from storage.run import Run

Tree = dict[str, Any]
Pictures = dict[int, str]
"""Row -> data URL."""


def pictures(
    run: Run, standings: list[Standing], evaluated: list[Evaluated], memory: Memory
) -> tuple[Tree, list[Tree]]:
    """`photographs`: row, name, group and JPEG of each; `cycles`: of each cycle a label map for each photograph. And
    a warning for each that is damaged.

    Photographs of one group were clustered together: a label means the same in all of them (Algorithm 1).
    """
    drawn = [each for each in evaluated if any(map(_is_figure, each.manifest.files))]
    labels: dict[int, Pictures] = {}
    warnings: list[Tree] = []
    for each in drawn:
        assert each.step.cycle is not None
        name = f"{each.step.name} pictures"
        labels[each.step.cycle] = memory.recall(name, each.manifest, partial(_drawn_labels, run, each))
    for found in _not_evaluated(run, standings):
        assert found.step.cycle is not None
        name = f"{found.step.name} pictures"
        made, damage = memory.recall(name, found.manifest, partial(_stored_labels, run, found))
        warnings += damage
        if made:
            labels[found.step.cycle] = made
    if not labels:
        return {"photographs": [], "cycles": []}, warnings
    newest, rows = drawn[-1] if drawn else None, sorted({row for made in labels.values() for row in made})
    index = next(found for found in standings if found.step.stage == "index-images")
    photographs, damage = memory.recall(
        "photographs",
        (index.manifest, newest.manifest if newest is not None else rows),
        lambda: _photographs(run, index, newest, rows),
    )
    cycles = [
        {"cycle": cycle, "labels": [labels[cycle].get(each["row"]) for each in photographs]} for cycle in sorted(labels)
    ]
    return {"photographs": photographs, "cycles": cycles if photographs else []}, [*warnings, *damage]


def _not_evaluated(run: Run, standings: list[Standing]) -> list[Standing]:
    """Masks that `evaluate` is still to draw; none on S3, where all of a store would be fetched for a few rows."""
    if not isinstance(run.store, LocalStore):
        return []
    evaluated = {found.step.cycle for found in standings if found.step.stage == "evaluate" and found.manifest}
    return [
        found
        for found in standings
        if found.step.stage == "bootstrap-masks" and found.manifest and found.step.cycle not in evaluated
    ]


def _is_figure(entry: FileEntry) -> bool:
    return entry.path.startswith(f"{FIGURES}/")


def _drawn_labels(run: Run, evaluated: Evaluated) -> Pictures:
    """As an evaluation drew them."""
    return {
        row: _data_url("png", _grey_png(read_labels(run.store.read(f"{evaluated.folder}/{entry.path}"))))
        for entry in filter(_is_figure, evaluated.manifest.files)
        if (row := masks_row(entry.path)) is not None
    }


def _stored_labels(run: Run, found: Standing) -> tuple[Pictures, list[Tree]]:
    """As an evaluation would draw them; each row has a checksum of its own, so that the rest is not read."""
    from storage.masks import count_rows, read_rows  # zarr takes long to import, and is needed here alone

    settings = run.config.evaluate
    try:
        store = run.store.fetch(f"{found.folder}/{layout.MASKS}")
        rows = range(min(settings.pictures, settings.images, count_rows(store)))
        return {row: _data_url("png", _grey_png(masks.labels)) for row, masks in read_rows(store, rows)}, []
    except DamagedArtifactError as error:
        return {}, [damaged(found, error)]


def _photographs(run: Run, index: Standing, newest: Evaluated | None, rows: list[int]) -> tuple[list[Tree], list[Tree]]:
    """Those that the newest evaluation drew; before the first, from the data, and none where that is gone."""
    damage, known = list[Tree](), list[Photograph]()
    try:
        known = read_photographs(view_artifact(run, index))
    except DamagedArtifactError as error:  # pictures without their names are better than none
        damage = [damaged(index, error)]
    if newest is not None:
        found = {
            row: run.store.read(f"{newest.folder}/{entry.path}")
            for entry in filter(_is_figure, newest.manifest.files)
            if (row := photograph_row(entry.path)) is not None
        }
    else:
        found = _from_data(run, known, rows)
    grouped = run.config.masks.source == "bootstrap"
    photographs: list[Tree] = [
        {
            "row": row,
            "name": encode_key(known[row].key) if row < len(known) else str(row),
            "group": row // run.config.masks.images_per_group if grouped else row,
            "picture": _data_url("jpeg", jpeg),
        }
        for row, jpeg in sorted(found.items())
    ]
    return photographs, damage


def _from_data(run: Run, known: list[Photograph], rows: list[int]) -> dict[int, bytes]:
    if not known:
        return {}
    try:
        reader = photograph_reader(known, run.record.data)
        return {row: photograph_jpeg(reader(row)) for row in rows}
    except (DataError, UnreachableError):
        return {}


def _grey_png(labels: NDArray[np.uint8]) -> bytes:
    """A PNG whose pixels are labels: what a browser reads back is what was written."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

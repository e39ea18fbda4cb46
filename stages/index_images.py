"""`index-images`: find the photographs, decode each once, quarantine what does not, and fix the dataset's order."""

import json
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from cyborgs.random_streams import stream
from schemas.digests import digest_bytes, digest_json
from schemas.errors import DataError, UnreachableError
from stages.context import Context, Outcome
from storage import layout
from storage.index import Photograph, Quarantined, content_digest, encode_photographs, encode_quarantine
from storage.photographs import (
    Candidate,
    Limits,
    encode_key,
    inspect,
    list_candidates,
    listing_digest,
    read_candidate,
    source_folder,
)
from storage.sources import PhotographFolder

CHUNK = 2048
"""Photographs after which progress is saved."""
_SHOWN = 3

Row = Photograph | Quarantined


def index_images(context: Context) -> Outcome:
    """Write photographs.csv and quarantine.csv.

    Raises:
        DataError: the folder is not what it was when the run was created, or too many photographs are broken.
    """
    config, record = context.config, context.run.record
    candidates = list_candidates(record.data)
    if listing_digest(candidates) != record.pins["photographs"]:
        raise DataError(
            f"{', '.join(record.data)}: the photographs here are not those that the run was created with "
            f"({len(candidates)} now, {record.photographs} then); start a new run for them, or put them back"
        )
    folders = [source_folder(source) for source in record.data]
    limits = Limits.of(config.index)
    rows: list[Row] = []
    with (
        context.progress(total=len(candidates), unit="photograph") as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for number, chunk in enumerate(_chunks(candidates)):
            name = f"rows-{number:06d}-{digest_json([asdict(c) | {'key': encode_key(c.key)} for c in chunk])}.json"
            saved = context.read_partial(name)
            if saved is not None:
                rows.extend(_decode_rows(saved))
                progress.advance(len(chunk))
                continue
            found: list[Row] = []
            for row in pool.map(lambda c: examine(folders[c.source], c, limits), chunk):
                found.append(row)
                progress.advance()
                context.stop.check(f"photographs are saved by every {CHUNK:,}, the rest is read again")
            if len(candidates) > CHUNK:
                context.save_partial(name, _encode_rows(found))
            rows.extend(found)

    photographs = [row for row in rows if isinstance(row, Photograph)]
    quarantined = [row for row in rows if isinstance(row, Quarantined)]
    _check_share(quarantined, len(rows), allowed=config.index.max_broken_fraction)
    order = stream("dataset order", config.seed).permutation(len(photographs))
    shuffled = [photographs[i] for i in order]
    folder = context.folder
    context.run.store.write(f"{folder}/{layout.PHOTOGRAPHS}", encode_photographs(shuffled))
    context.run.store.write(f"{folder}/{layout.QUARANTINE}", encode_quarantine(quarantined))
    if quarantined:
        context.warn(
            f"{len(quarantined)} of {len(rows)} photographs are broken and left out: "
            f"{context.run.store.url}/{folder}/{layout.QUARANTINE}"
        )
    return Outcome(
        content_digest(shuffled),
        {"photographs": len(photographs), "quarantined": len(quarantined)},
    )


def examine(folder: PhotographFolder, candidate: Candidate, limits: Limits) -> Row:
    """Decode a file fully: a row of the images table, or of the quarantine list with the reason."""
    try:
        data = read_candidate(folder, candidate, limits)
        header = inspect(data, limits)
    except DataError as error:
        return Quarantined(candidate.source, candidate.key, str(error))
    except UnreachableError:
        raise  # which says nothing of this photograph
    except OSError as error:
        return Quarantined(candidate.source, candidate.key, f"cannot be read: {error.strerror}")
    return Photograph(
        candidate.source,
        candidate.key,
        header.height,
        header.width,
        header.orientation,
        len(data),
        digest_bytes(data),
    )


def _check_share(quarantined: list[Quarantined], total: int, *, allowed: float) -> None:
    if len(quarantined) == total:
        raise DataError(f"none of {total} photographs can be read; {_examples(quarantined)}")
    share = len(quarantined) / total
    if share > allowed:
        raise DataError(
            f"{len(quarantined)} of {total} photographs are broken, more than {allowed:.0%} "
            f"(index.max_broken_fraction): {_examples(quarantined)}. Mend or remove them, "
            f"or leave them out with --set index.max_broken_fraction={math.ceil(1e4 * share) / 1e4:g}"
        )


def _examples(quarantined: list[Quarantined]) -> str:
    shown = "; ".join(f"{encode_key(q.key)}: {q.reason}" for q in quarantined[:_SHOWN])
    return f"{shown}; …" if len(quarantined) > _SHOWN else shown


def _chunks(candidates: list[Candidate]) -> Iterable[list[Candidate]]:
    return (candidates[first : first + CHUNK] for first in range(0, len(candidates), CHUNK))


def _encode_rows(rows: Iterable[Row]) -> bytes:
    return json.dumps([asdict(row) for row in rows]).encode()


def _decode_rows(data: bytes) -> Iterable[Row]:
    loaded = json.loads(data)
    return [Photograph(**row) if "digest" in row else Quarantined(**row) for row in loaded]

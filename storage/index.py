"""The images table of a run: one row per photograph, in the dataset's order, and the quarantine list."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from schemas.digests import digest_json
from schemas.errors import DataError
from storage import layout
from storage.artifacts import Artifact
from storage.photographs import PhotographReader, encode_key, source_folder


@dataclass(frozen=True)
class Photograph:
    """A row: everything that is known of a photograph without its pixels."""

    source: int
    key: str
    """Path below its source."""
    height: int
    width: int
    """Pixels, upright."""
    orientation: int
    """EXIF orientation 1 to 8."""
    bytes: int
    digest: str
    """Of the file."""


@dataclass(frozen=True)
class Quarantined:
    """A file that looks like a photograph and cannot be used."""

    source: int
    key: str
    reason: str


def encode_photographs(rows: Iterable[Photograph]) -> bytes:
    """The table as CSV: `row` first, then the fields of Photograph."""
    return _encode(["row", *(f.name for f in fields(Photograph))], ([i, *astuple(p)] for i, p in enumerate(rows)))


def encode_quarantine(rows: Iterable[Quarantined]) -> bytes:
    """The quarantine list as CSV."""
    return _encode([f.name for f in fields(Quarantined)], (astuple(row) for row in rows))


def content_digest(photographs: list[Photograph]) -> str:
    """Digest over the rows of the table, in their order."""
    return digest_json([{**asdict(row), "key": encode_key(row.key)} for row in photographs])


def read_photographs(artifact: Artifact) -> list[Photograph]:
    """The images table of a committed index."""
    return _photographs(artifact.path(layout.PHOTOGRAPHS).read_bytes())


def photographs_of_content(inside: Path, content: str) -> list[Photograph] | None:
    """The images table of that content digest, of the run on disk that a path lies in; None where there is none."""
    for folder in inside.absolute().parents:
        for table in sorted(folder.glob(layout.IMAGES_TABLES)):
            try:
                found = _photographs(table.read_bytes())
            except (ValueError, KeyError, TypeError, csv.Error):  # of no index, or damaged
                continue
            if content_digest(found) == content:
                return found
    return None


def _photographs(table: bytes) -> list[Photograph]:
    return [
        Photograph(
            int(row["source"]),
            row["key"],
            int(row["height"]),
            int(row["width"]),
            int(row["orientation"]),
            int(row["bytes"]),
            row["digest"],
        )
        for row in _decode(table)
    ]


def read_quarantine(artifact: Artifact) -> list[Quarantined]:
    """The quarantine list of a committed index."""
    rows = _decode(artifact.path(layout.QUARANTINE).read_bytes())
    return [Quarantined(int(row["source"]), row["key"], row["reason"]) for row in rows]


def photograph_reader(photographs: list[Photograph], data: tuple[str, ...]) -> PhotographReader:
    """Reads the pixels of rows from where the run's data lies now.

    Raises:
        DataError: a data source is gone, or there are fewer than the index was made from.
    """
    needed = 1 + max(row.source for row in photographs)
    if len(data) < needed:
        raise DataError(
            f"--data: the index was made from {needed} sources, {len(data)} are given: name all in that order"
        )
    return PhotographReader(
        [source_folder(source) for source in data],
        [row.source for row in photographs],
        [row.key for row in photographs],
        [row.digest for row in photographs],
    )


def _encode(header: list[str], rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    # A file name may hold a carriage return: csv quotes what the line end is made of.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    # File names are bytes on Linux; those that are not UTF-8 come through as they are.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _decode(table: bytes) -> list[dict[str, str]]:
    text = table.decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))

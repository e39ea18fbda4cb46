"""`start`: opening a packed label cache that is there, as `train` does whenever it starts."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.figure import Bench, Figure
from benchmarks.timing import Contender, Summary, in_turns
from storage import mask_cache
from storage.mask_cache import PackedMasks, pack_masks
from storage.masks import MaskRow

TARGET = 2.0
GRID = (60, 80)
"""Of a COCO photograph at stride 8."""
_NAME = "benchmark-start"
_DIFFERENT = 64


def measure(bench: Bench) -> list[Figure]:
    """A million rows; the file's pages are in memory where it has room for them."""
    rows = bench.pick(1_000_000, 50_000)
    packed = pack_generated(rows)
    try:
        seen: list[int] = []
        rounds = bench.pick(5, 3)
        (seconds,) = in_turns([Contender(lambda: seen.append(open_and_read(rows)))], rounds=rounds)
        summary = Summary.of(seconds)
        return [
            Figure(
                "start",
                summary.median,
                TARGET,
                "lower",
                "s",
                {"rows": rows, "cells of a row": seen[-1], "GB of labels": rows * seen[-1] / 1e9},
                (summary.low, summary.high),
                rounds,
                note="generated labels",
            )
        ]
    finally:
        packed.remove()


def open_and_read(rows: int) -> int:
    """Open the cache and read its last row; the row's cells."""
    packed = pack_masks(Path("no-store-is-read"), name=_NAME)
    if len(packed) != rows:
        raise RuntimeError(f"{len(packed)} of {rows} rows")
    return int(packed(rows - 1).size)


def pack_generated(rows: int) -> PackedMasks:
    """A cache as `pack_masks` makes it, of rows made here: reading a million from Zarr takes a quarter of an hour."""
    with mock.patch.multiple(mask_cache, count_rows=lambda _store: rows, read_rows=lambda _store: generated_rows(rows)):
        return pack_masks(Path("generated"), name=_NAME)


def generated_rows(rows: int) -> Iterator[tuple[int, MaskRow]]:
    """(row, masks) of GRID cells each."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 129, (_DIFFERENT, *GRID), dtype=np.uint8)
    for row in range(rows):
        yield row, MaskRow(labels[row % _DIFFERENT], (480, 640), 129)

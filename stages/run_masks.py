"""Masks that a run holds, beside the photographs they belong to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError, DataError
from schemas.plan import find_step
from storage import layout
from storage.artifacts import Standings, load_artifact
from storage.index import Photograph, photograph_reader, read_photographs
from storage.masks import MaskRow, read_rows
from storage.photographs import PhotographReader, file_digest
from storage.run import Run

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class CycleMasks:
    """The masks of a cycle, row by row as the index has the photographs."""

    photographs: list[Photograph]
    reader: PhotographReader
    store: Path

    def row(self, number: int) -> MaskRow:
        """Masks of one photograph."""
        return next(masks for _, masks in read_rows(self.store, range(number, number + 1)))

    def rows(self, wanted: Sequence[str] | None, *, most: int) -> list[int]:
        """Rows of photographs by name (`holiday/7.jpg`), file name (`7.jpg`) or row number; else the first ones.

        Raises:
            ConfigError: there is no such photograph, or several.
        """
        if not wanted:
            return list(range(min(most, len(self.photographs))))
        return [self._row(name) for name in wanted]

    def _row(self, name: str) -> int:
        found = [i for i, each in enumerate(self.photographs) if name in (each.key, each.key.rpartition("/")[2])]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"--images {name}: {len(found)} photographs have that name; give one's row in the index")
        if name.isdecimal() and int(name) < len(self.photographs):
            return int(name)
        raise ConfigError(f"--images {name}: no photograph of the run has that name, nor is it one of its rows")


def cycle_masks(run: Run, cycle: int) -> CycleMasks:
    """The masks of a cycle of a run.

    Raises:
        RunError: they are not made.
        DataError: the photographs are not where the run knows them.
    """
    standings = Standings(run)
    masks = load_artifact(run, standings.of(find_step(run.config, "bootstrap-masks", cycle)))
    index = load_artifact(run, standings.of(find_step(run.config, "index-images", None)))
    photographs = read_photographs(index)
    try:
        reader = photograph_reader(photographs, run.record.data)
    except DataError as error:
        moved = f"if they have moved, `cyborgs run --run {run.store.url} --data FOLDER` tells the run where"
        raise DataError(f"photographs of {run.store.url}: {str(error).removeprefix('--data ')}; {moved}") from error
    return CycleMasks(photographs, reader, masks.path(layout.MASKS))


def masks_by_photograph(run: Run, cycle: int, photographs: Sequence[Path]) -> Iterator[Labels]:
    """The run's masks of photographs elsewhere on disk, found by their content.

    Raises:
        DataError: the run has never seen one of them.
    """
    held = cycle_masks(run, cycle)
    rows = {photograph.digest: row for row, photograph in enumerate(held.photographs)}
    for path in photographs:
        row = rows.get(file_digest(path))
        if row is None:
            raise DataError(
                f"masks run: {path} is not among the photographs of {run.store.url}; use masks=weights to make masks "
                "of photographs that the run has not seen"
            )
        yield held.row(row).labels

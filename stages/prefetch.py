"""Photographs decoded ahead of the network that looks at them."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from cyborgs.clustering.bootstrap import fit_within
from storage.photographs import PhotographReader


class Prefetch:
    """Decodes the photographs of the next group while the network works on this one."""

    def __init__(self, reader: PhotographReader, max_side: int) -> None:
        self._reader, self._max_side = reader, max_side
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def groups(self, groups: list[range]) -> Iterator[list[Image.Image]]:
        """The photographs of each group of rows, the longer side at most `max_side` pixels."""
        waiting: list[Future[Image.Image]] = self._submit(groups[0]) if groups else []
        for number in range(len(groups)):
            ready, waiting = waiting, self._submit(groups[number + 1]) if number + 1 < len(groups) else []
            yield [future.result() for future in ready]

    def _submit(self, rows: range) -> list[Future[Image.Image]]:
        return [self._pool.submit(self._read, row) for row in rows]

    def _read(self, row: int) -> Image.Image:
        return fit_within(self._reader(row), self._max_side)

"""What a step of fine-tuning sees: a pure function of seed and place in the sequence, as in pretraining."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cyborgs.augmentation.order import epoch_order
from cyborgs.distributed import ALONE, World
from cyborgs.evaluation.frozen import Samples, read_ahead
from cyborgs.random_streams import stream

Sample = TypeVar("Sample")
Drawn = TypeVar("Drawn")


class DrawnSamples(Generic[Sample, Drawn]):
    """An endless sequence: the photographs in a new order each time they are through, each drawn by a stream of its
    own. A split that is smaller than a batch goes round within it.
    """

    def __init__(
        self,
        samples: Samples[Sample],
        draw: Callable[[Sample, np.random.Generator], Drawn],
        *,
        seed: int,
        threads: int | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            draw: called by several threads: it draws from the stream alone.
            threads: that read ahead.
            rows: what one time through consists of, where some come several times.
        """
        self._samples, self._draw, self._seed, self._threads = samples, draw, seed, threads
        self._rows = rows if rows is not None else range(len(samples))
        self._order = lru_cache(2)(self._draw_order)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Drawn:
        epoch, position = divmod(place, len(self._rows))
        row = self._rows[int(self._order(epoch)[position])]
        return self._draw(self._samples[row], stream("transfer", self._seed, place))

    def batches(self, first: int, last: int, *, batch_size: int, world: World = ALONE) -> Iterator[list[Drawn]]:
        """This process' share of the batches of some steps, read ahead.

        Args:
            batch_size: of all processes together, a multiple of their number.
        """
        share = batch_size // world.size
        places = (
            step * batch_size + world.rank * share + number for step in range(first, last) for number in range(share)
        )
        batch: list[Drawn] = []
        for drawn in read_ahead(self, places, threads=self._threads):
            batch.append(drawn)
            if len(batch) == share:
                yield batch
                batch = []

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return epoch_order(len(self._rows), seed=self._seed, epoch=epoch)


def repeated(categories: Sequence[Sequence[int]], threshold: float, *, seed: int) -> list[int]:
    """Rows of photographs, those with rare categories several times (Gupta et al. 2019, LVIS, section 5).

    A photograph comes max over its categories of max(1, sqrt(threshold / f)) times, f the share of photographs that
    show the category; what is not whole is rounded up with that probability, once by `seed`.

    Args:
        categories: of each photograph.
    """
    counts = np.bincount([number for shown in categories for number in set(shown)])
    shares = counts / len(categories)
    factors = [max([1.0, *(float(np.sqrt(threshold / shares[number])) for number in shown)]) for shown in categories]
    luck = stream("repeated", seed).random(len(factors))
    return [row for row, factor in enumerate(factors) for _ in range(int(factor) + (luck[row] < factor - int(factor)))]

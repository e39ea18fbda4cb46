"""Samples for training: pairs of views with their boxes, label grids and sampled regions.

Axes: V views (pairs of view 1, view 2), S the crop side, G the region grid, R sampled regions.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cyborgs.augmentation.order import SampleName, epoch_order, steps_per_epoch
from cyborgs.augmentation.views import Augmentation, draw_view
from cyborgs.random_streams import stream
from cyborgs.regions.label_grid import crop_labels
from cyborgs.regions.sampling import RegionSampling, sample_regions

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Regions:
    """How label grids and region samples are made."""

    labels: Callable[[int], NDArray[np.uint8]]
    """Row -> (h, w) label map."""
    grid: int
    count: int
    sampling: RegionSampling


class ViewDataset(Dataset[Batch]):
    """Row of the index -> augmented views. A sample is a pure function of its name."""

    def __init__(
        self,
        photograph: Callable[[int], Image.Image],
        augmentation: Augmentation,
        *,
        seed: int,
        regions: Regions | None = None,
    ) -> None:
        self._photograph, self._augmentation = photograph, augmentation
        self._seed, self._regions = seed, regions

    def __getitem__(self, name: SampleName) -> Batch:
        """One sample.

        Returns:
            row: () int64; views: (V, 3, S, S) uint8; boxes: (V, 5) float64 in units of the photograph; and with
            regions: labels (V, G, G) uint8, regions (V, R) int64.
        """
        photograph = self._photograph(name.row)
        image_size = (photograph.height, photograph.width)
        views, crops = [], []
        for view in range(2 * name.pairs):
            random = stream("view", self._seed, name.epoch, name.row, view)
            pixels, crop = draw_view(photograph, self._augmentation, pipeline=view % 2, random=random)
            views.append(pixels)
            crops.append(crop)
        sample = {
            "row": torch.tensor(name.row),
            "views": torch.stack(views),
            "boxes": torch.tensor([crop.box(image_size) for crop in crops], dtype=torch.float64),
        }
        if self._regions is not None:
            labels = self._regions.labels(name.row)
            grids = [
                crop_labels(
                    labels,
                    image_size=image_size,
                    crop=crop,
                    size=self._augmentation.crop_size,
                    grid=self._regions.grid,
                )
                for crop in crops[:2]
            ]
            ids = [
                sample_regions(
                    grids[view],
                    grids[1 - view],
                    self._regions.count,
                    sampling=self._regions.sampling,
                    random=stream("regions", self._seed, name.epoch, name.row, view),
                )
                for view in (0, 1)
            ]
            sample["labels"] = torch.from_numpy(np.stack(grids))
            sample["regions"] = torch.from_numpy(np.stack(ids))
        return sample


class StepSampler(Sampler[list[SampleName]]):
    """The batches of consecutive steps, from any step to any other, over epoch boundaries.

    Of `world_size` processes each takes an equal share of every batch, in order of rank: which photographs a step sees
    does not depend on how many there are.
    """

    def __init__(
        self,
        rows: int,
        *,
        batch_size: int,
        seed: int,
        first_step: int,
        last_step: int,
        pairs: Callable[[int], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._share, self._rank = batch_size // world_size, rank
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._first_step, self._last_step, self._pairs = first_step, last_step, pairs

    def __len__(self) -> int:
        return self._last_step - self._first_step

    def __iter__(self) -> Iterator[list[SampleName]]:
        per_epoch = steps_per_epoch(self._rows, self._batch_size)
        order, of_epoch = None, -1
        for step in range(self._first_step, self._last_step):
            epoch, batch = divmod(step, per_epoch)
            if order is None or epoch != of_epoch:
                order, of_epoch = epoch_order(self._rows, seed=self._seed, epoch=epoch), epoch
            first = batch * self._batch_size + self._rank * self._share
            rows = order[first : first + self._share]
            yield [SampleName(epoch, int(row), self._pairs(epoch)) for row in rows]


def view_loader(dataset: ViewDataset, sampler: StepSampler, *, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """Batches in the sampler's order, read ahead by `workers` processes; what they hold does not depend on how many."""
    if not workers:
        return DataLoader(dataset, batch_sampler=sampler, pin_memory=pin_memory)
    # A forked copy of a process that has threads can hang; the fork server has none.
    # It starts by itself: a folder of the user's must not shadow ours there either.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cyborgs.augmentation.dataset"])
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        prefetch_factor=4,
        worker_init_fn=_one_thread,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)

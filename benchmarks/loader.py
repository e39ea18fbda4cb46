"""`loader`: photographs a second and core, both views with masks, over lightly's BYOL transform without masks."""

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.figure import Bench, Figure
from benchmarks.photographs import take_photographs
from benchmarks.runs import generated_masks, indexed, make_run
from benchmarks.timing import Contender, Summary, in_turns, quotients
from cyborgs.augmentation.dataset import Batch, Regions, StepSampler, ViewDataset, view_loader
from schemas.config import RunConfig
from stages.build import build_augmentation
from storage.mask_cache import PackedMasks
from storage.run import open_run

TARGET = 1.5
BATCH = 16


def measure(bench: Bench) -> list[Figure]:
    """Both in this process, on one core in one thread; every round has other crops."""
    photographs = take_photographs(bench.work, bench.pick(64, 32))
    url = make_run(bench.work / "loader", "coco", ["numerics.world_size=1", f"optimization.batch_size={BATCH}"],
                   photographs.folder, weights=False)  # fmt: skip
    served: list[dict[str, int]] = [{}, {}]
    table, _ = indexed(url)
    ours, theirs = Ours(url, generated_masks(bench.work, table)), Lightly(photographs.folder)
    rounds = bench.pick(9, 3)
    with one_core():
        seconds = in_turns(
            [
                Contender(lambda: served.__setitem__(0, ours.epoch())),
                Contender(lambda: served.__setitem__(1, theirs.epoch())),
            ],
            rounds=rounds,
        )
    if served[0]["views"] != served[1]["views"]:
        raise RuntimeError(f"{served[0]['views']} views here, {served[1]['views']} from lightly")
    ratio = Summary.of(quotients(seconds[1], seconds[0]))
    return [
        Figure(
            "loader",
            ratio.median,
            TARGET,
            "higher",
            "x",
            {**served[0], "lightly's views": served[1]["views"]},
            (ratio.low, ratio.high),
            rounds,
            {
                "photographs/s": served[0]["photographs"] / Summary.of(seconds[0]).median,
                "lightly photographs/s": served[1]["photographs"] / Summary.of(seconds[1]).median,
            },
            f"{photographs.kind}; uint8 views, which the step normalises; lightly's are normalised",
        )
    ]


class Ours:
    """The loader of the stage `train`."""

    def __init__(self, url: str, masks: PackedMasks) -> None:
        photographs, reader = indexed(url)
        self._config: RunConfig = open_run(url).config
        self._rows = len(photographs)
        self._dataset = ViewDataset(
            reader,
            build_augmentation(self._config),
            seed=self._config.seed,
            regions=Regions(
                labels=masks,
                grid=self._config.network.region_grid,
                count=self._config.train.regions,
                sampling=self._config.train.region_sampling,
            ),
        )
        self._epochs = itertools.count()

    def batches(self) -> Iterable[Batch]:
        """Of the next epoch, as the stage `train` gets them."""
        size = self._config.optimization.batch_size
        steps = self._rows // size
        first = next(self._epochs) * steps
        sampler = StepSampler(
            self._rows,
            batch_size=size,
            seed=self._config.seed,
            first_step=first,
            last_step=first + steps,
            pairs=lambda _epoch: 1,
        )
        return view_loader(self._dataset, sampler, workers=0, pin_memory=False)

    def epoch(self) -> dict[str, int]:
        """All photographs once; what came out."""
        served = {"photographs": 0, "views": 0, "label grids": 0}
        for batch in self.batches():
            served["photographs"] += len(batch["row"])
            served["views"] += batch["views"].shape[0] * batch["views"].shape[1]
            served["label grids"] += batch["labels"].shape[0] * batch["labels"].shape[1]
        return served


class Lightly:
    """lightly's data set and BYOL transform at 224 px."""

    def __init__(self, folder: Path) -> None:
        from lightly.data import LightlyDataset  # here, for `memory` has no use for it
        from lightly.transforms.byol_transform import BYOLTransform

        dataset = LightlyDataset(str(folder), transform=BYOLTransform())
        self._loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)

    def epoch(self) -> dict[str, int]:
        """All photographs once; what came out."""
        served = {"photographs": 0, "views": 0}
        for views, _targets, _names in self._loader:
            served["photographs"] += len(views[0])
            served["views"] += sum(len(view) for view in views)
        return served


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, torch in one thread."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)

"""`masks in the loader`: reading and cropping label maps for both views, over decoding the same JPEGs."""

import itertools

import torch

from benchmarks.bootstrap import decode
from benchmarks.figure import Bench, Figure
from benchmarks.photographs import take_photographs
from benchmarks.runs import generated_masks, indexed, make_run
from benchmarks.timing import Contender, Summary, in_turns, quotients
from cyborgs.augmentation.crop import Crop, draw_crop
from cyborgs.random_streams import stream
from cyborgs.regions.label_grid import crop_labels
from schemas.config import RunConfig
from schemas.loading import load_config

TARGET = 0.10


def measure(bench: Bench) -> list[Figure]:
    """In one thread; crops are drawn before."""
    torch.set_num_threads(1)
    config = load_config("coco")
    photographs = take_photographs(bench.work, bench.pick(64, 32))
    url = make_run(bench.work / "loader", "coco", ["numerics.world_size=1", "optimization.batch_size=16"],
                   photographs.folder, weights=False)  # fmt: skip
    table, _ = indexed(url)
    sizes = [(row.height, row.width) for row in table]
    files = [photographs.folder / row.key for row in table]
    masks = generated_masks(bench.work, table)
    size, grid = config.augmentation.crop_size, config.network.region_grid
    crops: list[tuple[Crop, Crop]] = []
    epoch = itertools.count()

    def draw() -> None:
        number = next(epoch)
        crops[:] = [(_crop(config, s, number, row, 0), _crop(config, s, number, row, 1)) for row, s in enumerate(sizes)]

    def cut() -> int:
        grids = 0
        for row, pair in enumerate(crops):
            labels = masks(row)
            for crop in pair:
                grids += len(crop_labels(labels, image_size=sizes[row], crop=crop, size=size, grid=grid)) == grid
        return grids

    draw()
    grids = cut()
    rounds = bench.pick(15, 7)
    cutting, decoding = in_turns(
        [Contender(cut, before=draw), Contender(lambda: [decode(file) for file in files])], rounds=rounds
    )
    ratio = Summary.of(quotients(cutting, decoding))
    return [
        Figure(
            "masks in the loader",
            ratio.median,
            TARGET,
            "lower",
            "x",
            {"photographs": len(files), "label grids": grids, "cells": sum(masks(r).size for r in range(len(files)))},
            (ratio.low, ratio.high),
            rounds,
            {
                "masks ms/photograph": 1e3 * Summary.of(cutting).median / len(files),
                "decode ms/photograph": 1e3 * Summary.of(decoding).median / len(files),
            },
            photographs.kind,
        )
    ]


def _crop(config: RunConfig, image_size: tuple[int, int], *name: int) -> Crop:
    augmentation = config.augmentation
    return draw_crop(
        image_size,
        area=augmentation.crop_area,
        ratio=augmentation.crop_ratio,
        flip_probability=augmentation.flip_probability,
        random=stream("benchmark", *name),
    )

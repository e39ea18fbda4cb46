"""Runs that benchmarks work on, made and moved on by the project's own functions."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.prepare import prepare_run
from schemas.artifacts import Manifest
from schemas.loading import load_config
from schemas.plan import find_step
from schemas.stages import StageName, StageRequest
from stages.context import Context
from stages.execute import run_stage
from stages.interruption import stop_on_signals
from storage.artifacts import Artifact, Standing, Standings, load_artifact
from storage.index import Photograph
from storage.mask_cache import PackedMasks, pack_masks
from storage.masks import MaskRow, create_mask_store, write_shard
from storage.photographs import PhotographReader
from storage.run import open_run

NO_WARM_UP = ("schedule.warmup_epochs=0", "schedule.bootstrap_every_epochs=0")
"""One cycle from start weights: masks of random weights are the most ragged, which costs the store most."""
_PER_SHARD = 512


def make_run(place: Path, config: str, settings: Sequence[str], photographs: Path, *, weights: bool = True) -> str:
    """A run with its index and, where asked for, its start weights; its URL. The same again finds it done."""
    loaded = load_config(config, ["placement.device=cpu", *NO_WARM_UP, *settings])
    url = prepare_run(str(place), loaded, name=config, data=(str(photographs),)).store.url
    run_stage(StageRequest(run=url, stage="index-images"))
    if weights:
        run_stage(StageRequest(run=url, stage="warm-up"))
    return url


def bootstrap(url: str, *, again: bool) -> Manifest:
    """The stage `bootstrap-masks` of cycle 0, to its committed store."""
    run_stage(StageRequest(run=url, stage="bootstrap-masks", cycle=0, force=again))
    manifest = standing(url, "bootstrap-masks", 0).manifest
    assert manifest is not None
    return manifest


def standing(url: str, stage: StageName, cycle: int | None = None) -> Standing:
    """Where a step of a run stands."""
    run = open_run(url)
    return Standings(run).of(find_step(run.config, stage, cycle))


def artifact(url: str, stage: StageName, cycle: int | None = None) -> Artifact:
    """What a stage left, digests checked."""
    return load_artifact(open_run(url), standing(url, stage, cycle))


def indexed(url: str) -> tuple[list[Photograph], PhotographReader]:
    """The images table and what reads its pixels, as a stage gets them."""
    run = open_run(url)
    standings = Standings(run)
    found = standings.of(find_step(run.config, "warm-up", None))
    assert found.key is not None and found.folder is not None
    with stop_on_signals() as stop:
        return Context(run, found.step, found.key, found.folder, standings, stop).photographs()


def generated_store(work: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """A mask store for photographs of those heights and widths: blocks of 4 x 4 cells of 8 pixels."""
    store = work / f"generated-{len(sizes)}.zarr"
    if store.exists():
        return store
    random = np.random.default_rng(0)
    rows = [MaskRow(_blocks(random, -(-h // 8), -(-w // 8)), (h, w), 128) for h, w in sizes]
    grid = (max(row.labels.shape[0] for row in rows), max(row.labels.shape[1] for row in rows))
    aside = store.with_name(f"partial-{store.name}")
    shutil.rmtree(aside, ignore_errors=True)
    create_mask_store(aside, rows=len(rows), grid=grid, rows_per_shard=_PER_SHARD, attributes={})
    for first in range(0, len(rows), _PER_SHARD):
        write_shard(aside, first, rows[first : first + _PER_SHARD])
    aside.rename(store)
    return store


def generated_masks(work: Path, photographs: Sequence[Photograph]) -> PackedMasks:
    """A packed copy of generated masks for those photographs."""
    sizes = [(row.height, row.width) for row in photographs]
    return pack_masks(generated_store(work, sizes), name=f"benchmark-{len(sizes)}")


def _blocks(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = random.integers(0, 128, (-(-height // 4), -(-width // 4)), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4), np.uint8))[:height, :width]

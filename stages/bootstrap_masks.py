"""`bootstrap-masks`: masks of all photographs from the encoder's own features, a shard at a time (Algorithm 1)."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cyborgs.clustering.bootstrap import bootstrap_group, fit_within, fitted_size, with_fresh_statistics
from cyborgs.distributed import LostPeerError
from cyborgs.networks.backbone import Backbone
from schemas.architectures import feature_grid, layer_stride
from schemas.digests import DIGEST_BYTES
from schemas.errors import DamagedArtifactError
from schemas.extras import check_extras
from stages.build import build_crf, computes_in_bfloat16
from stages.checkpoint import read_backbone
from stages.context import Context, Outcome
from stages.progress import Progress
from storage import layout
from storage.index import Photograph
from storage.masks import (
    DamagedRowsError,
    MaskRow,
    create_mask_store,
    read_rows,
    shard_files,
    write_shard,
)
from storage.photographs import PhotographReader

_CREATED = "masks created"
"""What the process that leads tells the others."""
_POLL_SECONDS = 0.5


def bootstrap_masks(context: Context) -> Outcome | None:
    """Write masks.zarr. A shard that an earlier attempt finished is not made again.

    Of several processes each makes every n-th shard; the one that leads waits for the others by what they leave on
    storage, so nobody waits for a process that has come to its end.
    """
    config, team = context.config, context.team
    assert context.step.cycle is not None
    check_extras(config)
    photographs, reader = context.photographs()
    path = _open_store(context, photographs)
    shards = _shards(len(photographs), config.masks.rows_per_shard)
    pending = [rows for rows in shards if context.read_partial(_marker(rows)) is None]
    mine = [rows for rows in shards[team.rank :: team.size] if rows in pending]
    with (
        context.progress(
            total=len(photographs), done=len(photographs) - sum(map(len, pending)), unit="photograph"
        ) as progress,
        _Prefetch(reader, config.masks.max_side) as prefetch,
    ):
        backbone = _load_backbone(context, prefetch, len(photographs)) if mine else None
        for rows in mine:
            assert backbone is not None
            made = list(_shard_rows(context, backbone, photographs, prefetch, rows, progress=progress.advance))
            write_shard(path, rows.start, made)
            for file in shard_files(rows.start // config.masks.rows_per_shard):
                context.run.store.publish(f"{context.folder}/{layout.MASKS}/{file}")
            context.save_partial(_marker(rows), _marker(rows).encode())
            context.stop.check()
        if not team.leads:
            return None
        _wait_for_others(context, [rows for rows in pending if rows not in mine], progress)
    return _summarise(context, context.workspace(layout.MASKS), shards)  # with what the others have made


def _open_store(context: Context, photographs: list[Photograph]) -> Path:
    """The store, ready to be written to: made by the process that leads, before any other looks for it."""
    if not context.team.leads:
        context.team.hear(_CREATED, check=context.stop.check)
        return context.workspace(layout.MASKS)
    path = context.workspace(layout.MASKS)
    _create_store(context, path, photographs)
    context.run.store.publish(f"{context.folder}/{layout.MASKS}")
    context.team.tell(_CREATED)
    return path


def _wait_for_others(context: Context, theirs: list[range], progress: Progress) -> None:
    """Until the other processes' shards are there.

    Raises:
        LostPeerError: none of them has shown a sign of life for `placement.lost_after_minutes`.
    """
    heard, since = "", time.monotonic()
    while theirs:
        left = [rows for rows in theirs if context.read_partial(_marker(rows)) is None]
        progress.advance(sum(map(len, theirs)) - sum(map(len, left)))
        theirs = left
        signs = " ".join(context.team.heard(_beat(rank)) or "" for rank in range(1, context.team.size))
        if signs != heard:
            heard, since = signs, time.monotonic()
        if time.monotonic() - since > context.config.placement.lost_after_minutes * 60:
            raise LostPeerError(f"no sign of life for {context.config.placement.lost_after_minutes:g} minutes")
        context.stop.check()
        time.sleep(_POLL_SECONDS)


def _create_store(context: Context, path: Path, photographs: list[Photograph]) -> None:
    config = context.config
    stride = 1 if config.masks.crf else layer_stride(config.masks.layer[0])
    grids = []
    for photograph in photographs:
        width, height = fitted_size(photograph.width, photograph.height, config.masks.max_side)
        grids.append(feature_grid(height, width, stride))
    create_mask_store(
        path,
        rows=len(photographs),
        grid=(max(h for h, _ in grids), max(w for _, w in grids)),
        rows_per_shard=config.masks.rows_per_shard,
        attributes={
            "layer": list(config.masks.layer),
            "stride": stride,
            "cycle": context.step.cycle,
            "checkpoint": context.input_manifest("checkpoint").content,
            "index": context.input_manifest("index").content,
            "config": context.run.record.config_digest,
        },
    )


def _load_backbone(context: Context, prefetch: "_Prefetch", rows: int) -> Backbone:
    config = context.config
    backbone = Backbone(config.network.architecture, seed=0)
    backbone.load_state_dict(read_backbone(context.input("checkpoint").path(layout.MODEL)))
    backbone.to(context.device).to(memory_format=torch.channels_last).eval()
    if config.masks.refresh_batch_norm:
        groups = list(_groups(range(rows), config.masks.images_per_group))[: config.masks.refresh_batch_norm]
        backbone = with_fresh_statistics(
            backbone,
            prefetch.groups(groups),
            config.masks.layer,
            bfloat16=computes_in_bfloat16(config),
        )
    return backbone.folded().to(memory_format=torch.channels_last)


def _shard_rows(
    context: Context,
    backbone: Backbone,
    photographs: list[Photograph],
    prefetch: "_Prefetch",
    rows: range,
    *,
    progress: Callable[[int], None],
) -> Iterator[MaskRow]:
    config = context.config.masks
    assert context.step.cycle is not None
    groups = list(_groups(rows, config.images_per_group))
    for group, images in zip(groups, prefetch.groups(groups), strict=True):
        masks = bootstrap_group(
            backbone,
            images,
            layers=config.layer,
            clusters=config.clusters,
            iterations=config.iterations,
            points_per_cluster=config.points_per_cluster,
            seed=context.config.seed,
            cycle=context.step.cycle,
            group=group.start // config.images_per_group,
            bfloat16=computes_in_bfloat16(context.config),
            crf=build_crf(context.config),
        )
        for row, labels in zip(group, masks.labels, strict=True):
            yield MaskRow(labels, (photographs[row].height, photographs[row].width), masks.clusters)
        progress(len(group))
        context.team.tell(_beat(context.team.rank), str(group.start))
        context.stop.check()


def _shards(rows: int, size: int) -> list[range]:
    return list(_groups(range(rows), size))


def _groups(rows: range, size: int) -> Iterator[range]:
    return (range(first, min(first + size, rows.stop)) for first in range(rows.start, rows.stop, size))


def _marker(shard: range) -> str:
    return f"shard-{shard.start:09d}"


def _beat(rank: int) -> str:
    return f"masks beat {rank}"


def _summarise(context: Context, path: Path, shards: list[range]) -> Outcome:
    """Read the whole store back, every checksum held against its row, and digest what it says.

    Raises:
        DamagedArtifactError: a shard is not what was written; it is thrown away, and the next attempt makes it again.
    """
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    regions, clusters = [], []
    damaged: DamagedArtifactError | None = None
    for shard in shards:
        context.stop.check()
        try:
            for row, masks in read_rows(path, shard):
                hasher.update(np.array([row, masks.clusters, *masks.labels.shape, *masks.image_size], "<u4").tobytes())
                hasher.update(masks.labels.tobytes())
                regions.append(len(np.unique(masks.labels)))
                clusters.append(masks.clusters)
        except DamagedArtifactError as error:
            damaged = error
            if isinstance(error, DamagedRowsError):  # else it is what describes the store: each attempt writes it anew
                _throw_away(context, shard)
    if damaged is not None:
        raise DamagedArtifactError(f"{damaged}; give the same command again to make it anew") from damaged
    return Outcome(
        hasher.hexdigest(),
        {
            "photographs": len(regions),
            "regions_per_photograph": round(float(np.mean(regions)), 2),
            "clusters_per_group": round(float(np.mean(clusters)), 2),
        },
    )


def _throw_away(context: Context, shard: range) -> None:
    """Let a finished shard be pending again: its marker first, which says that it is whole."""
    context.run.store.delete(context.partial(_marker(shard)))
    for file in shard_files(shard.start // context.config.masks.rows_per_shard):
        context.run.store.delete(f"{context.folder}/{layout.MASKS}/{file}")


class _Prefetch:
    """Decodes the photographs of the next group while the network works on this one."""

    def __init__(self, reader: PhotographReader, max_side: int) -> None:
        self._reader, self._max_side = reader, max_side
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> "_Prefetch":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def groups(self, groups: list[range]) -> Iterator[list[Image.Image]]:
        waiting: list[Future[Image.Image]] = self._submit(groups[0]) if groups else []
        for number in range(len(groups)):
            ready, waiting = waiting, self._submit(groups[number + 1]) if number + 1 < len(groups) else []
            yield [future.result() for future in ready]

    def _submit(self, rows: range) -> list[Future[Image.Image]]:
        return [self._pool.submit(self._read, row) for row in rows]

    def _read(self, row: int) -> Image.Image:
        return fit_within(self._reader(row), self._max_side)

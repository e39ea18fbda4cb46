"""`bootstrap-masks`: masks of all photographs from the encoder's own features, a shard at a time (Algorithm 1).

Or from elsewhere, once, where `masks.source` says so.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cyborgs.clustering.bootstrap import bootstrap_group, with_fresh_statistics
from cyborgs.distributed import LostPeerError
from cyborgs.networks.backbone import Backbone
from schemas.digests import DIGEST_BYTES
from schemas.errors import DamagedArtifactError
from schemas.extras import check_extras
from stages.build import build_crf, computes_in_bfloat16
from stages.checkpoint import read_backbone
from stages.context import Context, Outcome
from stages.mask_gate import keep_previous, noted_refusal, refuse
from stages.mask_health import measure_health
from stages.mask_sources import FixedMasks, open_source
from stages.mask_store import create_store
from stages.prefetch import Prefetch
from stages.progress import Progress
from storage import layout
from storage.index import Photograph
from storage.masks import (
    DamagedRowsError,
    MaskRow,
    read_rows,
    shard_files,
    write_shard,
)

_CREATED = "masks created"
"""What the process that leads tells the others, with the first rows of the shards that are to be made."""
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
    fixed = open_source(context, photographs) if config.masks.source != "bootstrap" else None
    if team.leads and (refusal := noted_refusal(context)) is not None:
        _tell_pending(context, [])
        return keep_previous(context, refusal)
    shards = _shards(len(photographs), config.masks.rows_per_shard)
    pending = _open_store(context, photographs, fixed, shards)
    if not (team.leads or pending):
        return None  # the process that leads may be replacing the store
    path = context.workspace(layout.MASKS)
    mine = [rows for rows in shards[team.rank :: team.size] if rows in pending]
    with (
        context.progress(
            total=len(photographs), done=len(photographs) - sum(map(len, pending)), unit="photograph"
        ) as progress,
        Prefetch(reader, config.masks.max_side) as prefetch,
    ):
        if not mine:
            make = None
        elif fixed is None:
            make = _clustering(context, _load_backbone(context, prefetch, len(photographs)), photographs)
        else:
            make = _looking_up(fixed, photographs)
        for rows in mine:
            assert make is not None
            groups = list(_groups(rows, config.masks.images_per_group))
            read = prefetch.groups(groups) if fixed is None or fixed.needs_pixels else map(_unread, groups)
            made = list(_made(context, make, groups, read, progress=progress.advance))
            write_shard(path, rows.start, made)
            for file in shard_files(rows.start // config.masks.rows_per_shard):
                context.run.store.publish(f"{context.folder}/{layout.MASKS}/{file}")
            context.save_partial(_marker(rows), _marker(rows).encode())
            context.stop.check()
        if not team.leads:
            return None
        _wait_for_others(context, [rows for rows in pending if rows not in mine], progress)
    path = context.workspace(layout.MASKS)  # with what the others have made
    outcome = _summarise(context, path, shards)
    health = measure_health(context, path, reader)
    refused = refuse(context, health, reader)
    if refused is not None:
        return keep_previous(context, refused)
    return replace(outcome, summary={**outcome.summary, **health.figures()})


def _open_store(
    context: Context, photographs: list[Photograph], fixed: FixedMasks | None, shards: list[range]
) -> list[range]:
    """Have the store ready to be written to, by the process that leads; the shards that are still to be made.

    Which those are, the others are told: what they would see for themselves changes while they look.
    """
    if not context.team.leads:
        starts = json.loads(context.team.hear(_CREATED, check=context.stop.check))
        return [rows for rows in shards if rows.start in starts]
    create_store(context, context.workspace(layout.MASKS), photographs, fixed)
    context.run.store.publish(f"{context.folder}/{layout.MASKS}")
    pending = [rows for rows in shards if context.read_partial(_marker(rows)) is None]
    _tell_pending(context, pending)
    return pending


def _tell_pending(context: Context, pending: list[range]) -> None:
    context.team.tell(_CREATED, json.dumps([rows.start for rows in pending]))


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


def _load_backbone(context: Context, prefetch: Prefetch, rows: int) -> Backbone:
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


Make = Callable[[range, Sequence[Image.Image | None]], list[MaskRow]]
"""Rows of a group and their photographs -> their masks."""


def _clustering(context: Context, backbone: Backbone, photographs: list[Photograph]) -> Make:
    """Masks from the encoder's own features."""
    config, cycle = context.config.masks, context.step.cycle
    assert cycle is not None

    def make(group: range, images: Sequence[Image.Image | None]) -> list[MaskRow]:
        masks = bootstrap_group(
            backbone,
            [image for image in images if image is not None],
            layers=config.layer,
            clusters=config.clusters,
            iterations=config.iterations,
            points_per_cluster=config.points_per_cluster,
            seed=context.config.seed,
            cycle=cycle,
            group=group.start // config.images_per_group,
            bfloat16=computes_in_bfloat16(context.config),
            crf=build_crf(context.config),
        )
        return [
            MaskRow(labels, (photographs[row].height, photographs[row].width), masks.clusters)
            for row, labels in zip(group, masks.labels, strict=True)
        ]

    return make


def _looking_up(fixed: FixedMasks, photographs: list[Photograph]) -> Make:
    """Masks that do not come from the encoder."""

    def make(group: range, images: Sequence[Image.Image | None]) -> list[MaskRow]:
        found = [fixed.labels(row, image) for row, image in zip(group, images, strict=True)]
        return [
            MaskRow(labels, (photographs[row].height, photographs[row].width), int(labels.max()) + 1)
            for row, labels in zip(group, found, strict=True)
        ]

    return make


def _made(
    context: Context,
    make: Make,
    groups: list[range],
    read: Iterable[Sequence[Image.Image | None]],
    *,
    progress: Callable[[int], None],
) -> Iterator[MaskRow]:
    for group, images in zip(groups, read, strict=True):
        yield from make(group, images)
        progress(len(group))
        context.team.tell(_beat(context.team.rank), str(group.start))
        context.stop.check(f"masks are saved for every {context.config.masks.rows_per_shard:,} photographs")


def _unread(group: range) -> list[None]:
    return [None] * len(group)


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

"""`evaluate`: what can be said of a cycle without labels, and pictures to look at."""

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.baselines.network import LAYER, ImageEncoder
from cyborgs.evaluation.agreement import mask_agreement
from cyborgs.evaluation.collapse import effective_rank, projection_std
from cyborgs.evaluation.frozen import central_crop
from cyborgs.evaluation.projections import photograph_projections
from cyborgs.networks.siamese import RegionEncoder
from cyborgs.random_streams import stream
from schemas.digests import digest_json
from stages.build import build_image_network, build_network
from stages.context import Context, Outcome
from stages.epochs import count_steps
from stages.figures import FIGURES, draw
from stages.planned_protocols import measure_protocols
from storage import layout
from storage.artifacts import Artifact
from storage.checkpoints import decode_tensors
from storage.masks import read_rows
from storage.photographs import PhotographReader

Encoder = TypeVar("Encoder", RegionEncoder, ImageEncoder)
_GROUP = 16
_ENCODER = "network/online."
_SAVED = "its figures are made again"


def evaluate(context: Context) -> Outcome:
    """Write metrics.json and, under figures/, photographs and their masks."""
    config = context.config
    photographs, reader = context.photographs()
    rows = range(min(config.evaluate.images, len(photographs)))
    metrics: dict[str, float | int] = {"photographs": len(rows)}
    of_cycle, before = context.optional_input("masks"), context.optional_input("previous_masks")
    masks = _labels(of_cycle, rows) if of_cycle is not None else None
    if masks is not None:
        metrics["regions_per_photograph"] = float(np.mean([len(np.unique(labels)) for labels in masks]))
    if masks is not None and before is not None:
        agreement = [mask_agreement(a, b) for a, b in zip(_labels(before, rows), masks, strict=True)]
        metrics["mask_agreement"] = float(np.mean(agreement))
    if masks is not None:
        vectors, projections = _project(context, reader, masks)
    else:
        vectors, projections = _project_whole(context, reader, rows)
    metrics |= {
        "projection_std": projection_std(projections),
        "projection_rank": effective_rank(projections),
        "feature_std": projection_std(vectors),
        "feature_rank": effective_rank(vectors),
    }
    metrics |= measure_protocols(context)
    metrics = {name: round(value, 6) for name, value in metrics.items()}
    context.record(context.step.last_epoch * count_steps(context, len(photographs)), metrics)
    text = json.dumps(metrics, indent=1)
    context.run.store.write(f"{context.folder}/{layout.METRICS}", text.encode())
    if masks is not None:
        _draw(context.workspace(FIGURES), reader, masks[: config.evaluate.pictures])
    shown = ("projection_std", "projection_rank", "regions_per_photograph", "mask_agreement")
    return Outcome(digest_json(metrics), {name: round(metrics[name], 4) for name in shown if name in metrics})


def _labels(artifact: Artifact, rows: range) -> list[NDArray[np.uint8]]:
    return [masks.labels for _, masks in read_rows(artifact.path(layout.MASKS), rows)]


def _project(
    context: Context, reader: PhotographReader, masks: list[NDArray[np.uint8]]
) -> tuple[torch.Tensor, torch.Tensor]:
    encoder = _load_encoder(context)
    vectors, projections = [], []
    with context.progress(total=len(masks), unit="photograph") as progress:
        for first in range(0, len(masks), _GROUP):
            rows = range(first, min(first + _GROUP, len(masks)))
            of_backbone, of_projector = photograph_projections(
                encoder,
                [reader(row) for row in rows],
                [masks[row] for row in rows],
                crop_size=context.config.augmentation.crop_size,
                regions=context.config.train.regions,
                random=stream("evaluate", context.config.seed, first),
            )
            vectors.append(of_backbone)
            projections.append(of_projector)
            progress.advance(len(rows))
            context.stop.check(_SAVED)
    return torch.cat(vectors), torch.cat(projections)


def _project_whole(context: Context, reader: PhotographReader, rows: range) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_project`, of the central crops of whole photographs: what other methods contrast."""
    size = context.config.augmentation.crop_size
    encoder = _loaded(context, build_image_network(context.config).online)
    vectors, projections = [], []
    with context.progress(total=len(rows), unit="photograph") as progress:
        for row in rows:
            crop = to_tensor(central_crop(reader(row), resize=size, crop=size)).unsqueeze(0).to(context.device)
            with torch.no_grad():
                features = encoder.backbone(normalise(crop), [LAYER])[LAYER]
                vectors.append(features.mean(dim=(2, 3)).cpu())
                projections.append(encoder.project(features).cpu())
            progress.advance()
            context.stop.check(_SAVED)
    return torch.cat(vectors), torch.cat(projections)


def _load_encoder(context: Context) -> RegionEncoder:
    return _loaded(context, build_network(context.config).online)


def _loaded(context: Context, encoder: Encoder) -> Encoder:
    """An online encoder with the checkpoint's weights, ready to measure with."""
    checkpoint = context.input("checkpoint")
    backbone = decode_tensors(checkpoint.path(layout.MODEL).read_bytes())[0]
    rest = decode_tensors(checkpoint.path(layout.TRAINING_STATE).read_bytes())[0]
    encoder.backbone.load_state_dict(backbone)
    prefix = f"{_ENCODER}projector."
    encoder.projector.load_state_dict(
        {name.removeprefix(prefix): t for name, t in rest.items() if name.startswith(prefix)}
    )
    encoder.to(context.device).to(memory_format=torch.channels_last)
    return encoder.eval()


def _draw(folder: Path, reader: PhotographReader, masks: list[NDArray[np.uint8]]) -> None:
    folder.mkdir(exist_ok=True)
    for row, labels in enumerate(masks):
        draw(folder, row, reader(row), labels)

"""`evaluate`: what can be said of a cycle without labels, and pictures to look at."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cyborgs.clustering.bootstrap import fit_within
from cyborgs.evaluation.agreement import mask_agreement
from cyborgs.evaluation.collapse import effective_rank, projection_std
from cyborgs.evaluation.projections import photograph_projections
from cyborgs.networks.siamese import RegionEncoder
from cyborgs.random_streams import stream
from schemas.digests import digest_json
from stages.build import build_network
from stages.context import Context, Outcome
from stages.planned_protocols import measure_protocols
from storage import layout
from storage.artifacts import Artifact
from storage.checkpoints import decode_tensors
from storage.masks import read_rows
from storage.photographs import PhotographReader

_GROUP = 16
_PICTURE_SIDE = 256
_ENCODER = "network/online."


def evaluate(context: Context) -> Outcome:
    """Write metrics.json and, under figures/, photographs and their masks."""
    config = context.config
    photographs, reader = context.photographs()
    rows = range(min(config.evaluate.images, len(photographs)))
    masks = _labels(context.input("masks"), rows)
    before = context.optional_input("previous_masks")

    metrics: dict[str, float | int] = {
        "photographs": len(rows),
        "regions_per_photograph": float(np.mean([len(np.unique(labels)) for labels in masks])),
    }
    if before is not None:
        agreement = [mask_agreement(a, b) for a, b in zip(_labels(before, rows), masks, strict=True)]
        metrics["mask_agreement"] = float(np.mean(agreement))
    vectors, projections = _project(context, reader, masks)
    metrics |= {
        "projection_std": projection_std(projections),
        "projection_rank": effective_rank(projections),
        "feature_std": projection_std(vectors),
        "feature_rank": effective_rank(vectors),
    }
    metrics |= measure_protocols(context)
    metrics = {name: round(value, 6) for name, value in metrics.items()}
    text = json.dumps(metrics, indent=1)
    context.run.store.write(f"{context.folder}/{layout.METRICS}", text.encode())
    _draw(context.workspace("figures"), reader, masks[: config.evaluate.pictures])
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
            context.stop.check()
    return torch.cat(vectors), torch.cat(projections)


def _load_encoder(context: Context) -> RegionEncoder:
    checkpoint = context.input("checkpoint")
    encoder = build_network(context.config).online
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
    """figures/000-photograph.jpg beside figures/000-masks.png, at one size."""
    folder.mkdir(exist_ok=True)
    for row, labels in enumerate(masks):
        photograph = fit_within(reader(row), _PICTURE_SIDE)
        photograph.save(folder / f"{row:03d}-photograph.jpg", quality=85)
        colours = Image.fromarray(label_colours()[labels])
        colours.resize(photograph.size, Image.Resampling.NEAREST).save(folder / f"{row:03d}-masks.png")


def label_colours() -> NDArray[np.uint8]:
    """A colour for each label, neighbouring labels far apart: (256, 3) uint8 RGB."""
    golden = 0.61803398875
    hues = np.arange(256) * golden % 1.0
    values = 0.95 - 0.35 * (np.arange(256) * golden * golden % 1.0)
    offsets = np.array([0.0, 1 / 3, 2 / 3])
    wheel = np.abs((hues[:, None] + offsets) % 1.0 * 6 - 3) - 1
    colours = values[:, None] * (0.35 + 0.65 * np.clip(wheel, 0, 1))
    rounded: NDArray[np.uint8] = (255 * colours).round().astype(np.uint8)
    return rounded

"""Protocol imagenet-semi (Table 1): fine-tuning for classification on few labelled photographs; top-1 and top-5."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cyborgs.augmentation.crop import draw_crop
from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.augmentation.views import cut
from cyborgs.evaluation.frozen import Figures, central_crop
from cyborgs.transfer.classifiers import Classifier, hits
from cyborgs.transfer.samples import DrawnSamples
from schemas.fine_tuning import ImagenetSemiSettings
from schemas.protocol_settings import ProtocolSettings
from stages.attempt import Attempt
from stages.fine_tuning import fine_tune, photographs_on, write_network
from stages.measured import Mapped, Measured
from stages.readers.image_folder import image_folder
from stages.transfer.common import build, identity, meet, rows_learnt_from, shared
from stages.weights import Weights

_RANKS = (1, 5)
_RATIO = (3 / 4, 4 / 3)
"""Width / height of training crops."""


def imagenet_semi(weights: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt) -> Measured:
    """Top-1 and top-5 accuracy in per cent."""
    assert isinstance(settings, ImagenetSemiSettings)
    device, world = meet(settings, attempt)
    listed = None if settings.image_list is None else root / settings.image_list
    whole, classes, names = image_folder(root, settings.train, listed=listed, most=settings.max_images)
    rows = rows_learnt_from(len(classes), settings, classes)
    train, learnt = whole.of(rows), [classes[row] for row in rows]
    test, true, _ = image_folder(root, settings.test, names, most=settings.max_images)
    network = build(weights, lambda backbone: Classifier(backbone, len(names)), settings.seed).to(device)
    steps = settings.steps or settings.epochs * math.ceil(len(learnt) / settings.batch_size)

    def draw(row: int, random: np.random.Generator) -> tuple[Tensor, int]:
        photograph = train.samples[row]
        size = (photograph.height, photograph.width)
        crop = draw_crop(size, area=settings.crop_area, ratio=_RATIO, flip_probability=0.5, random=random)
        return to_tensor(cut(photograph, crop, settings.crop)), learnt[row]

    def losses(network: nn.Module, batch: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
        images = photographs_on([image for image, _ in batch], device)
        wanted = torch.tensor([number for _, number in batch], device=device)
        return {"cross_entropy": nn.functional.cross_entropy(network(normalise(images)).float(), wanted)}

    fine_tune(
        "imagenet-semi",
        network,
        DrawnSamples(range(len(learnt)), draw, seed=settings.seed, threads=settings.workers),
        losses,
        settings,
        is_head=lambda name: name.startswith("head."),
        steps=steps,
        identity=identity(weights, train, settings),
        world=world,
        attempt=attempt,
    )
    write_network("imagenet-semi", network, settings, attempt, architecture=weights.used.architecture, classes=names)
    central = Mapped(
        test.samples, lambda photograph: central_crop(photograph, resize=settings.resize, crop=settings.crop)
    )
    found = torch.zeros(len(_RANKS), dtype=torch.int64)
    for row, image in shared(central, world, attempt, threads=settings.workers):
        with torch.no_grad():
            scores = network(normalise(to_tensor(image).unsqueeze(0).to(device)))
        found += torch.tensor(hits(scores.cpu(), torch.tensor([true[row]]), _RANKS))
    found = world.sum(found)
    values = {f"top{k}": 100 * int(count) / len(true) for k, count in zip(_RANKS, found, strict=True)}
    counts = {"classes": float(len(names)), "learnt_from": float(len(learnt))}
    return Measured(Figures(values | counts), {settings.train: train, settings.test: test}, {"steps": steps})

"""What all frozen protocols share: samples read when needed, features of a backbone that must not change, figures.

Axes: P photographs, C channels.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.networks.backbone import Backbone

Sample = TypeVar("Sample", covariant=True)
_AHEAD = 16
"""Samples that are decoded while the network is at work."""
LAST_LAYER = "layer4"


class Samples(Protocol[Sample]):
    """A sequence whose elements may be read from disk only when asked for; a list is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Sample: ...


@dataclass(frozen=True)
class Figures:
    """What a protocol found."""

    values: dict[str, float]
    skipped: dict[str, str] = field(default_factory=dict)
    """What was left out -> why: classes without enough labels, for one."""


class BackboneChangedError(RuntimeError):
    """A protocol that measures a frozen backbone has changed it: its figures mean nothing."""


@contextmanager
def frozen(backbone: Backbone) -> Iterator[None]:
    """Evaluation mode without gradients; at the end every parameter and buffer must be what it was, to the bit.

    Raises:
        BackboneChangedError: one is not.
    """
    before = {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}
    wanted = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    was_training = backbone.training
    backbone.eval().requires_grad_(False)
    try:
        yield
    finally:
        backbone.train(was_training)
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(wanted[name])
    changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    if changed:
        raise BackboneChangedError(f"{len(changed)} tensors of the frozen backbone have changed, such as {changed[0]}")


def read_ahead(
    samples: Samples[Sample], order: Iterable[int] | None = None, *, threads: int | None = None
) -> Iterator[Sample]:
    """The samples in order, decoded by threads a few ahead of who consumes them.

    Args:
        threads: None: a few more than there are cores.
    """
    waiting: list[Future[Sample]] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for position in order if order is not None else range(len(samples)):
                waiting.append(pool.submit(samples.__getitem__, position))
                if len(waiting) > _AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def central_crop(photograph: Image.Image, *, resize: int, crop: int) -> Image.Image:
    """The central square of `crop` pixels after the shorter side was brought to `resize`; ImageNet's test view."""
    scale = max(resize, crop) / min(photograph.size)
    width, height = (max(crop, round(side * scale)) for side in photograph.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    resized = photograph.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + crop, top + crop))


@torch.no_grad()
def square_features(
    backbone: Backbone, photographs: Samples[Image.Image], *, resize: int, crop: int, pool: int, batch: int = 32
) -> Tensor:
    """Unit vectors of whole photographs: layer4 of the central crop, averaged to pool x pool cells, flattened, l2.

    Returns:
        (P, C * pool * pool) float32 on the CPU.
    """
    device = next(backbone.parameters()).device
    found: list[Tensor] = []
    images: list[Tensor] = []
    for number, photograph in enumerate(read_ahead(photographs), start=1):
        images.append(to_tensor(central_crop(photograph, resize=resize, crop=crop)))
        if len(images) == batch or number == len(photographs):
            features = backbone(normalise(torch.stack(images).to(device)), [LAST_LAYER])[LAST_LAYER]
            pooled = F.adaptive_avg_pool2d(features.float(), pool).flatten(1)
            found.append(F.normalize(pooled, dim=1).cpu())
            images.clear()
    return torch.cat(found)

"""Networks of the methods that contrast whole images: an encoder, its average, and queues of keys.

Axes: B images, K rows of a queue, N cells, D dimensions.
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyborgs.networks.backbone import Backbone
from cyborgs.networks.siamese import mlp, take_over
from cyborgs.precision import at_least_float32
from cyborgs.random_streams import stream_seed

Method = Literal["byol", "simclr", "moco", "densecl"]
LAYER = "layer4"


class ImageEncoder(nn.Module):
    """Backbone, and the projector that works on its averaged last feature map."""

    def __init__(self, method: Method, *, architecture: str, hidden: int, dim: int, seed: int) -> None:
        super().__init__()
        self.backbone = Backbone(architecture, seed=stream_seed("backbone", seed))
        channels = self.backbone.channels(LAYER)
        # BYOL's and SimCLR's heads have a batch-norm, MoCo v2's and DenseCL's none.
        head = mlp if method in ("byol", "simclr") else _plain_mlp
        self.projector = head(channels, hidden, dim, seed=stream_seed("projector", seed))
        self.dense = (
            _plain_mlp(channels, hidden, dim, seed=stream_seed("dense-projector", seed))
            if method == "densecl"
            else None
        )

    def project(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D)."""
        found: Tensor = self.projector(features.mean(dim=(2, 3)))
        return found

    def project_cells(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, N): the same head on every cell."""
        assert self.dense is not None
        cells: Tensor = self.dense(features.flatten(2).transpose(1, 2))
        return cells.transpose(1, 2)


def _plain_mlp(inputs: int, hidden: int, outputs: int, *, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


class Queue(nn.Module):
    """The last K keys, unit vectors, first in first out; random ones at the start."""

    rows: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("rows", F.normalize(torch.randn(size, dim, generator=generator), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """(B, D) take the places of the oldest."""
        keys = F.normalize(at_least_float32(keys), dim=1)[-len(self.rows) :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.rows)
        self.rows[places] = keys
        self.place.copy_((self.place + len(keys)) % len(self.rows))


class ImageNetwork(nn.Module):
    """Everything that a method moves."""

    def __init__(self, method: Method, *, architecture: str, hidden: int, dim: int, queue: int, seed: int) -> None:
        super().__init__()
        self.method = method
        self.online = ImageEncoder(method, architecture=architecture, hidden=hidden, dim=dim, seed=seed)
        self.predictor = mlp(dim, hidden, dim, seed=stream_seed("predictor", seed)) if method == "byol" else None
        self.target = copy.deepcopy(self.online).requires_grad_(False) if method != "simclr" else None
        queued = method in ("moco", "densecl")
        self.queue = Queue(queue, dim, seed=stream_seed("queue", seed)) if queued else None
        self.dense_queue = Queue(queue, dim, seed=stream_seed("dense-queue", seed)) if method == "densecl" else None

    def start_from(self, backbone: dict[str, Tensor]) -> None:
        """Take over start weights of the backbone, in online and target.

        Raises:
            ValueError: names or shapes do not fit the architecture.
        """
        take_over(backbone, self.online.backbone, *([self.target.backbone] if self.target is not None else []))

"""Processes that share a step, by torch.distributed. One process alone is a world of its own: nothing is sent then.

Rank r takes the r-th equal share of the global batch; every loss is a mean over equal shares, so the mean of the
ranks' gradients is the gradient of the global loss.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")
_BUCKET_BYTES = 32 * 2**20
"""Gradients are sent in pieces of about this size: few messages, and no second copy of all of them."""


class LostPeerError(RuntimeError):
    """Another process ended, or cannot be reached any more."""


@contextmanager
def lost_peers() -> Iterator[None]:
    """Name what torch.distributed raises, as a plain RuntimeError most often, when a peer is gone."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # of this process' own device
    except RuntimeError as error:
        raise LostPeerError("it cannot be reached any more") from error


@dataclass(frozen=True)
class World:
    """Who this process is among those that share a step; they have joined torch.distributed's default group."""

    rank: int = 0
    size: int = 1

    def gather(self, tensor: Tensor) -> Tensor:
        """All ranks' tensors, equal in shape, one after the other in order of rank: (P, ...) -> (size x P, ...)."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with lost_peers():
            dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, of any shape."""
        if self.size == 1:
            return tensor
        total = tensor.clone(memory_format=torch.contiguous_format)
        with lost_peers():
            dist.all_reduce(total)
        return total

    def mean(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean over ranks of each of some scalars, in one message."""
        if self.size == 1:
            return scalars
        means = self.sum(torch.stack([value.double() for value in scalars.values()])) / self.size
        return dict(zip(scalars, means, strict=True))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean over ranks into every gradient; which parameters have one is the same on every rank."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        held = 0
        for parameter in parameters:
            if parameter.grad is None:
                continue
            bucket.append(parameter.grad)
            held += parameter.grad.numel() * parameter.grad.element_size()
            if held >= _BUCKET_BYTES:
                self._average(bucket)
                bucket, held = [], 0
        self._average(bucket)

    def _average(self, gradients: list[Tensor]) -> None:
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with lost_peers():
            dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view(gradient.shape))
            offset += gradient.numel()

    def gather_objects(self, items: list[Item]) -> list[Item]:
        """All ranks' items on the first one, in order of rank; none on the others."""
        if self.size == 1:
            return items
        parts: list[list[Item] | None] | None = [None] * self.size if self.rank == 0 else None
        with lost_peers():
            dist.gather_object(items, parts)
        return [item for part in parts or [] for item in part or []]

    def share_buffers(self, network: nn.Module) -> None:
        """Give all ranks the first one's buffers, such as batch-norm's running statistics."""
        if self.size == 1:
            return
        with lost_peers():
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def synchronise_batch_norm(self, network: nn.Module, device: torch.device) -> None:
        """Let batch-norm see the batches of all ranks, where torch can: on GPUs. Elsewhere each rank has its own.

        Args:
            network: changed in place; it is not a batch-norm layer itself.
        """
        if self.size > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


ALONE = World()

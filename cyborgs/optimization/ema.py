"""The target network as a moving average of the online network (section 3.2)."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target = momentum target + (1 - momentum) online; buffers (batch-norm statistics) are copied."""
    averages: list[Tensor] = list(target.parameters())
    weights: list[Tensor] = list(online.parameters())
    torch._foreach_lerp_(averages, weights, 1 - momentum)
    buffers = list(target.buffers()), list(online.buffers())
    if buffers[0]:
        torch._foreach_copy_(*buffers)

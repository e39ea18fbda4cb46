"""Layer-wise adaptive rate scaling (You et al. 2017), as the paper trains with."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """u = g + wd w; u *= trust |w| / |u| (1 where either is 0); m = momentum m + u; w -= lr m.

    In groups with `adapt=False` (biases, batch-norm) it is plain momentum SGD: u = g. Parameters without a gradient
    are left alone, decay included.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        update = weight.grad
        if group["adapt"]:
            update = update.add(weight, alpha=group["weight_decay"])
            weight_norm, update_norm = weight.norm(), update.norm()
            usable = (weight_norm > 0) & (update_norm > 0)
            ratio = group["trust_coefficient"] * weight_norm / update_norm
            update = update * torch.where(usable, ratio, 1.0)
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(update)
        weight.sub_(buffer, alpha=group["lr"])

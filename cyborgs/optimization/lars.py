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
            weights = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not weights:
                continue
            if weights[0].device.type == "cpu":
                # One by one: what an operation leaves in the cache, the next one finds there.
                for weight in weights:
                    self._update([weight], group)
            else:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        buffers = [self._momentum(weight) for weight in weights]
        updates = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_mul_(buffers, group["momentum"])
        if group["adapt"]:
            updates = list(torch._foreach_add(updates, weights, alpha=group["weight_decay"]))
            weight_norms = torch.stack(torch._foreach_norm(weights))
            update_norms = torch.stack(torch._foreach_norm(updates))
            usable = (weight_norms > 0) & (update_norms > 0)
            ratios = torch.where(usable, group["trust_coefficient"] * weight_norms / update_norms, 1.0)
            torch._foreach_addcmul_(buffers, updates, list(ratios.unbind()))
        else:
            torch._foreach_add_(buffers, updates)
        torch._foreach_add_(weights, buffers, alpha=-group["lr"])

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

"""The optimiser over a network's parameters, and its state under the parameters' names."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from cyborgs.optimization.lars import LARS

OptimizerName = Literal["lars", "sgd", "adamw"]


def make_optimizer(
    name: OptimizerName,
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    trust_coefficient: float,
) -> Optimizer:
    """An optimiser; parameters with one dimension or none (biases, batch-norm) have no decay and no adaptation."""
    named = list(parameters)
    weights = [parameter for _, parameter in named if parameter.ndim > 1]
    others = [parameter for _, parameter in named if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if name == "lars":
        groups[1]["adapt"] = False
        return LARS(groups, lr=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient)
    if name == "sgd":
        return SGD(groups, lr=learning_rate, momentum=momentum)
    return AdamW(groups, lr=learning_rate)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """For all groups, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: Optimizer, parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """`<parameter>/<slot>` -> tensor, independent of the order in which parameters were given."""
    tensors = {}
    for name, parameter in parameters:
        for slot, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{slot}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


def load_optimizer_tensors(
    optimizer: Optimizer, parameters: Iterable[tuple[str, nn.Parameter]], tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave."""
    by_name = dict(parameters)
    optimizer.state.clear()
    for path, value in tensors.items():
        name, _, slot = path.rpartition("/")
        parameter = by_name[name]
        # Adam keeps its step count on the CPU; moments live with their weights.
        moved = value if value.ndim == 0 else value.to(parameter.device, parameter.dtype)
        optimizer.state[parameter][slot] = moved.clone(memory_format=torch.preserve_format)

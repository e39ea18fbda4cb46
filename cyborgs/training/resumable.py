"""Training that can be saved at any step and put back: a network, its optimiser and a step counter."""

from torch import Tensor, nn
from torch.optim import Optimizer

from cyborgs.optimization.optimizers import load_optimizer_tensors, optimizer_tensors


class ResumableTraining:
    """All state is in `network`, `optimizer` and `step`: what a step draws comes from streams named by its number."""

    network: nn.Module
    optimizer: Optimizer
    step: int = 0
    """Steps taken."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the step counter, by name."""
        of_network = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        of_optimizer = optimizer_tensors(self.optimizer, self._trained())
        return of_network | {f"optimizer/{name}": tensor for name, tensor in of_optimizer.items()}

    def load(self, tensors: dict[str, Tensor], *, step: int) -> None:
        """Put back what `tensors` gave, at that step."""
        self.network.load_state_dict(_below(tensors, "network/"))
        load_optimizer_tensors(self.optimizer, self._trained(), _below(tensors, "optimizer/"))
        self.step = step

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

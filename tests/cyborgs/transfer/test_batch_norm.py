"""Fresh batch-norm statistics: the mean over batches, by hand, and nothing else moves."""

import torch
from torch import Tensor, nn

from cyborgs.transfer.batch_norm import refresh_statistics


def test_statistics_are_the_mean_over_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = [torch.randn(16, 3) + number for number in range(3)]

    def losses(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return {"mean": network(batch).mean()}

    refresh_statistics(network, iter(batches), losses, seed=0, bfloat16=False)
    with torch.no_grad():
        seen = [network[0](batch) for batch in batches]
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean(dim=0) for each in seen]).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack([each.var(dim=0) for each in seen]).mean(dim=0))
    assert norm.momentum == 0.1
    after = network.state_dict()
    assert all(
        after[name].equal(tensor) for name, tensor in before.items() if "running" not in name and "num" not in name
    )

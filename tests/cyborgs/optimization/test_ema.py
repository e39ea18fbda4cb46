"""The target network as a moving average."""

import pytest
import torch
from torch import nn

from cyborgs.optimization.ema import update_average


def _network(seed: int) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    random = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=random))
    return network


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.996])
def test_weights_are_averaged(momentum: float) -> None:
    target, online = _network(0), _network(1)
    expected = [
        momentum * average.detach().double() + (1 - momentum) * weight.detach().double()
        for average, weight in zip(target.parameters(), online.parameters(), strict=True)
    ]
    update_average(target, online, momentum)
    for found, value in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach().double(), value, rtol=1e-6, atol=1e-7)


def test_buffers_are_copied_and_not_shared() -> None:
    target, online = _network(0), _network(1)
    batch_norm, source = target[1], online[1]
    assert isinstance(batch_norm, nn.BatchNorm1d)
    assert isinstance(source, nn.BatchNorm1d)
    assert source.num_batches_tracked is not None
    source.num_batches_tracked.fill_(7)
    update_average(target, online, 0.9)
    for name, buffer in source.named_buffers():
        copied = batch_norm.get_buffer(name)
        assert copied.equal(buffer), name
        assert copied.data_ptr() != buffer.data_ptr(), name


def test_momentum_one_keeps_the_target() -> None:
    target = _network(0)
    before = [weight.detach().clone() for weight in target.parameters()]
    update_average(target, _network(1), 1.0)
    assert all(weight.equal(old) for weight, old in zip(target.parameters(), before, strict=True))


def test_online_network_is_left_alone() -> None:
    online = _network(1)
    before = {name: tensor.clone() for name, tensor in online.state_dict().items()}
    update_average(_network(0), online, 0.5)
    assert all(tensor.equal(before[name]) for name, tensor in online.state_dict().items())


def test_equal_networks_stay_equal_to_the_bit() -> None:
    """What layers that were never trained rely on: they do not drift by rounding."""
    target, online = _network(1), _network(1)
    for _ in range(50):
        update_average(target, online, 0.996)
    assert all(a.equal(b) for a, b in zip(target.parameters(), online.parameters(), strict=True))

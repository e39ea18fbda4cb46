"""What processes share beside losses and gradients (tests/cyborgs/training/test_shared_steps.py has these)."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from cyborgs.distributed import LostPeerError, World, lost_peers


def _kinds(network: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in network.modules() if "BatchNorm" in type(module).__name__]


def test_batch_norm_is_synchronised_on_gpus_between_several_processes_alone() -> None:
    for world, device, expected in (
        (World(0, 2), "cuda", nn.SyncBatchNorm),
        (World(0, 2), "cpu", nn.BatchNorm2d),
        (World(), "cuda", nn.BatchNorm2d),
    ):
        network = resnet18()
        names = list(network.state_dict())
        world.synchronise_batch_norm(network, torch.device(device))
        assert _kinds(network) == [expected] * 20
        assert list(network.state_dict()) == names


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_a_fault_of_this_processs_own_gpu_is_no_lost_peer(error: type[RuntimeError]) -> None:
    with pytest.raises(error), lost_peers():
        raise error("CUDA error: unspecified launch failure")
    with pytest.raises(LostPeerError), lost_peers():
        raise RuntimeError("Connection closed by peer")

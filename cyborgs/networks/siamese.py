"""Online and target network: BYOL's arrangement with region vectors in place of image vectors (section 3.2)."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cyborgs.networks.backbone import Backbone
from cyborgs.networks.fusion import Downsample, fuse
from cyborgs.random_streams import stream_seed
from cyborgs.regions.pooling import pool_regions


def mlp(inputs: int, hidden: int, outputs: int, *, seed: int) -> nn.Sequential:
    """BYOL's head: Linear, batch-norm, ReLU, Linear without bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, outputs, bias=False),
        )


class RegionEncoder(nn.Module):
    """Backbone and projector, and how region vectors come from a view."""

    def __init__(
        self,
        *,
        architecture: str,
        contrast_layers: Sequence[str],
        region_grid: int,
        downsample: Downsample,
        hidden: int,
        dim: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.contrast_layers, self.region_grid, self.downsample = tuple(contrast_layers), region_grid, downsample
        self.backbone = Backbone(architecture, seed=stream_seed("backbone", seed))
        channels = sum(self.backbone.channels(layer) for layer in contrast_layers)
        self.projector = mlp(channels, hidden, dim, seed=stream_seed("projector", seed))

    def pool(self, features: dict[str, Tensor], labels: Tensor, regions: Tensor) -> Tensor:
        """Vectors of sampled regions (equations 5, then 1).

        Args:
            features: layer name -> (B, C_l, H_l, W_l).
            labels: (B, G, G) integer region ids per cell.
            regions: (B, R) sampled ids.

        Returns:
            (B, R, sum of C_l), float32.
        """
        maps = [features[name] for name in self.contrast_layers]
        fused = fuse(maps, self.region_grid, downsample=self.downsample)
        return pool_regions(fused, labels.flatten(1), regions)


def apply_to_regions(head: nn.Module, vectors: Tensor) -> Tensor:
    """(B, R, C) -> (B, R, D); the head's batch-norm sees all B x R vectors."""
    batch, regions = vectors.shape[:2]
    return torch.unflatten(head(vectors.flatten(0, 1)), 0, (batch, regions))


class SiameseNetwork(nn.Module):
    """The online network with its predictor, and the target network that follows it."""

    def __init__(
        self,
        *,
        architecture: str,
        contrast_layers: Sequence[str],
        region_grid: int,
        downsample: Downsample,
        hidden: int,
        dim: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.online = RegionEncoder(
            architecture=architecture,
            contrast_layers=contrast_layers,
            region_grid=region_grid,
            downsample=downsample,
            hidden=hidden,
            dim=dim,
            seed=seed,
        )
        self.predictor = mlp(dim, hidden, dim, seed=stream_seed("predictor", seed))
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def start_from(self, backbone: dict[str, Tensor]) -> None:
        """Take over start weights of the backbone, in online and target.

        Raises:
            ValueError: names or shapes do not fit the architecture.
        """
        take_over(backbone, self.online.backbone, self.target.backbone)


def take_over(tensors: dict[str, Tensor], *backbones: Backbone) -> None:
    """Load a state dict under torchvision's names into some backbones.

    Raises:
        ValueError: names or shapes do not fit the architecture.
    """
    expected = backbones[0].state_dict()
    # Files older than batch-norm's step counter lack it, and nothing here reads it.
    missing = sorted(n for n in set(expected) - set(tensors) if not n.endswith("num_batches_tracked"))
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ValueError(f"missing {missing[:3]}, unknown {unknown[:3]}: not weights of this architecture")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, this architecture has {tuple(expected[name].shape)}"
            )
    for backbone in backbones:
        backbone.load_state_dict(expected | tensors)

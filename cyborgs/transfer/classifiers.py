"""A pretrained ResNet with a classifier on its averaged last feature map, as in He et al. (2016).

Axes: B photographs, L classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cyborgs.networks.backbone import Backbone


class Classifier(nn.Module):
    """Class scores of photographs; every layer is trained."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        """
        Args:
            backbone: its modules become the network's own.
            classes: L.
        """
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.channels("layer4"), classes)
        # As OpenSelfSup's ClsHead starts.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, L) scores."""
        scores: Tensor = self.head(self.backbone(images, ["layer4"])["layer4"].mean(dim=(2, 3)))
        return scores


def hits(scores: Tensor, classes: Tensor, ranks: Sequence[int]) -> list[int]:
    """For each k of `ranks`, how many photographs have their class among the k highest scores.

    Args:
        scores: (B, L).
        classes: (B,) int64.
    """
    found = torch.topk(scores, min(max(ranks), scores.shape[1]), dim=1).indices == classes.unsqueeze(1)
    return [int(found[:, :k].any(dim=1).sum()) for k in ranks]

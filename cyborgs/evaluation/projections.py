"""Region vectors of whole photographs, as the trained network sees them."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cyborgs.augmentation.crop import Crop
from cyborgs.augmentation.pixels import normalise, to_tensor
from cyborgs.augmentation.views import cut
from cyborgs.networks.siamese import RegionEncoder, apply_to_regions
from cyborgs.regions.label_grid import crop_labels
from cyborgs.regions.sampling import sample_regions


@torch.no_grad()
def photograph_projections(
    encoder: RegionEncoder,
    photographs: list[Image.Image],
    labels: list[NDArray[np.uint8]],
    *,
    crop_size: int,
    regions: int,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Backbone vectors and projections of regions sampled in whole photographs.

    Args:
        encoder: in evaluation mode.
        labels: (h, w) label map per photograph.

    Returns:
        vectors (P, C), projections (P, D), P = photographs x regions; float32 on the CPU.
    """
    device = next(encoder.parameters()).device
    images, grids, ids = [], [], []
    for photograph, own in zip(photographs, labels, strict=True):
        whole = Crop(0, 0, photograph.height, photograph.width, flip=False)
        grid = crop_labels(
            own,
            image_size=(photograph.height, photograph.width),
            crop=whole,
            size=crop_size,
            grid=encoder.region_grid,
        )
        images.append(to_tensor(cut(photograph, whole, crop_size)))
        grids.append(grid)
        ids.append(sample_regions(grid, grid, regions, sampling="independent", random=random))
    features = encoder.backbone(normalise(torch.stack(images).to(device)), encoder.contrast_layers)
    vectors = encoder.pool(
        features,
        torch.from_numpy(np.stack(grids)).to(device),
        torch.from_numpy(np.stack(ids)).to(device),
    )
    projections = apply_to_regions(encoder.projector, vectors)
    return vectors.flatten(0, 1).cpu(), projections.flatten(0, 1).float().cpu()

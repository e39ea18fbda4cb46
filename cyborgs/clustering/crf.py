"""Refining masks by a fully connected CRF over the photograph (Table 2b; Krähenbühl & Koltun 2011).

Axes: h x w the feature grid, H x W the photograph, D dimensions, K clusters, L labels present in the photograph.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cyborgs.losses.vmf import assign


@dataclass(frozen=True)
class Crf:
    """Kernels and number of iterations; a kernel of weight 0 is left out."""

    concentration: float
    """kappa of the unary term."""
    iterations: int
    """Of mean field."""
    appearance: tuple[float, float, float]
    """Weight, pixels and grey levels of the kernel over position and colour."""
    smoothness: tuple[float, float]
    """Weight and pixels of the kernel over position alone."""


def unary_energies(
    features: Tensor, prototypes: Tensor, size: tuple[int, int], *, concentration: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """-log softmax(kappa mu^T y) over the labels present in a photograph, brought up to its size (bilinear).

    Args:
        features: (h, w, D) unit vectors y.
        prototypes: (K, D) unit vectors mu, K at most 256.
        size: H, W.

    Returns:
        (L,) the labels present, rising, and (L, H, W) their energies.
    """
    present = torch.unique(assign(features, prototypes))
    logits = concentration * features @ prototypes[present].T  # (h, w, L)
    energies = -torch.log_softmax(logits, dim=-1).permute(2, 0, 1)
    upsampled = F.interpolate(energies.unsqueeze(0), size, mode="bilinear", align_corners=False).squeeze(0)
    return present.to(torch.uint8).cpu().numpy(), upsampled.float().cpu().numpy()


def refine(
    photograph: Image.Image, labels: NDArray[np.uint8], energies: NDArray[np.float32], crf: Crf
) -> NDArray[np.uint8]:
    """The most probable label of each pixel by mean field, where pixels that are near and alike attract each other.

    Args:
        photograph: upright RGB, H x W.
        labels: (L,) what the energies belong to.
        energies: (L, H, W) unary energies, negative log-probabilities.

    Returns:
        (H, W) uint8, values of `labels`.
    """
    from pydensecrf.densecrf import DenseCRF2D  # optional, and compiled where it is installed

    count, height, width = energies.shape
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(energies.reshape(count, -1)))
    weight, pixels = crf.smoothness
    if weight:
        field.addPairwiseGaussian(sxy=pixels, compat=weight)
    weight, pixels, levels = crf.appearance
    if weight:
        colours = np.array(photograph.convert("RGB"))
        field.addPairwiseBilateral(sxy=pixels, srgb=levels, rgbim=colours, compat=weight)
    posterior = np.asarray(field.inference(crf.iterations))
    refined: NDArray[np.uint8] = labels[posterior.argmax(axis=0)].reshape(height, width)
    return refined

"""Number formats: networks may compute in fewer bits, losses and clustering never in less than float32."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it has fewer bits; float64 stays what it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

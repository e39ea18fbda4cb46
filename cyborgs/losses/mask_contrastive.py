"""The mask-dependent contrastive loss (equation 2), with DetCon-B's conventions (Henaff et al. 2021).

Axes: B images, R sampled regions per view, D dimensions, M = B x R.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cyborgs.distributed import World
from cyborgs.precision import at_least_float32


@dataclass(frozen=True)
class RegionTargets:
    """One view's target projections of the global batch; they carry no gradient."""

    vectors: Tensor
    """(M', D) l2-normalised."""
    images: Tensor
    """(M',) number of the image in the global batch."""
    regions: Tensor
    """(M',) region id."""

    def gathered(self, world: World) -> "RegionTargets":
        """Those of all processes, in order of rank."""
        return RegionTargets(world.gather(self.vectors), world.gather(self.images), world.gather(self.regions))


@dataclass(frozen=True)
class MaskLoss:
    """The loss and what is logged beside it."""

    loss: Tensor
    """Scalar, the sum of both directions."""
    positives_per_anchor: Tensor
    """Scalar mean over all anchors, in the partner view."""
    orphans: Tensor
    """Scalar share of anchors without a positive."""
    shared_negatives: Tensor
    """Scalar share of negatives with the anchor's id in another photograph."""


def region_targets(projections: Tensor, regions: Tensor, *, first_image: int = 0) -> RegionTargets:
    """Target projections of a view, ready to be contrasted with.

    Args:
        projections: (B, R, D).
        regions: (B, R) ids.
        first_image: number of this batch's first image in the global batch.
    """
    batch, count = regions.shape
    images = torch.arange(first_image, first_image + batch, device=regions.device)
    return RegionTargets(
        F.normalize(at_least_float32(projections.detach()), dim=-1).flatten(0, 1),
        images.repeat_interleave(count),
        regions.flatten(),
    )


def mask_contrastive_loss(
    predictions_1: Tensor,
    predictions_2: Tensor,
    regions_1: Tensor,
    regions_2: Tensor,
    targets_1: RegionTargets,
    targets_2: RegionTargets,
    *,
    temperature: float,
    first_image: int = 0,
) -> MaskLoss:
    """Predictions of view 1 against target projections of view 2, and the reverse.

    The positive of an anchor is its own image's region of the same id among the regions sampled in the other
    view; several share the target mass equally. Negatives are all other sampled regions of both views in the
    global batch, except the anchor's own id in its own view. An anchor weighs 1 / (how often its id was sampled in
    its view), or nothing when it has no positive. The mean is over all B x R anchors, those included.

    Args:
        predictions_1, predictions_2: (B, R, D) of the online network, not normalised.
        regions_1, regions_2: (B, R) ids that the predictions belong to.
        targets_1, targets_2: target projections of view 1 and 2, of the global batch.
        temperature: divides the cosines.
        first_image: number of this batch's first image in the global batch.
    """
    one = _direction(predictions_1, regions_1, targets_1, targets_2, temperature, first_image)
    two = _direction(predictions_2, regions_2, targets_2, targets_1, temperature, first_image)
    return MaskLoss(
        loss=one.loss + two.loss,
        positives_per_anchor=(one.positives_per_anchor + two.positives_per_anchor) / 2,
        orphans=(one.orphans + two.orphans) / 2,
        shared_negatives=(one.shared_negatives + two.shared_negatives) / 2,
    )


def _direction(
    predictions: Tensor,
    regions: Tensor,
    own: RegionTargets,
    other: RegionTargets,
    temperature: float,
    first_image: int,
) -> MaskLoss:
    batch, count = regions.shape
    # Divided by the temperature here, where there are D numbers for an anchor and not one for each of its negatives.
    anchors = F.normalize(at_least_float32(predictions), dim=-1).flatten(0, 1) / temperature  # (M, D)
    ids = regions.flatten().unsqueeze(1)  # (M, 1)
    image = torch.arange(first_image, first_image + batch, device=regions.device)
    image = image.repeat_interleave(count).unsqueeze(1)

    positive = (image == other.images) & (ids == other.regions)  # (M, M')
    itself = (image == own.images) & (ids == own.regions)  # (M, M')
    logits_other = anchors @ other.vectors.T
    logits_own = (anchors @ own.vectors.T).masked_fill_(itself, -torch.inf)
    log_total = torch.logsumexp(torch.cat([logits_other, logits_own], dim=1), dim=1)  # (M,)

    members = positive.to(anchors.dtype)
    positives = members.sum(dim=1)
    # The mean logit of the positives is the logit of their mean: no gradient of (M, M') for it.
    log_positive = (anchors * (members @ other.vectors)).sum(dim=1) / positives.clamp(min=1)
    repeats = (regions.unsqueeze(2) == regions.unsqueeze(1)).sum(dim=2).flatten()
    weights = (positives > 0).to(anchors.dtype) / repeats
    loss = (weights * (log_total - log_positive)).sum() / (batch * count)

    with torch.no_grad():
        found, left_out = positives.sum(), itself.to(anchors.dtype).sum()
        same_id = _equal_pairs(regions, other.regions) + _equal_pairs(regions, own.regions) - found - left_out
        negatives = 2 * positive.numel() - found - left_out
        return MaskLoss(
            loss,
            positives.mean(),
            (positives == 0).float().mean(),
            same_id / negatives.clamp(min=1),
        )


def _equal_pairs(first: Tensor, second: Tensor) -> Tensor:
    """How many pairs of one number from each of two tensors of integers are equal."""
    ordered = second.flatten().sort().values
    after = torch.searchsorted(ordered, first.flatten(), right=True)
    return (after - torch.searchsorted(ordered, first.flatten())).sum()

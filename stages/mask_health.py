"""What `bootstrap-masks` says of the masks' health, from a sample that is the same in every cycle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyborgs.evaluation.mask_health import edge_agreement, effective_regions, size_entropy
from stages.context import Context
from storage.masks import count_rows, read_rows
from storage.photographs import PhotographReader

SAMPLE = 128
"""Photographs that are looked at, from the start of the index."""


@dataclass(frozen=True)
class MaskHealth:
    """Means over the sample."""

    size_entropy: float
    """Bits."""
    effective_regions: float
    edge_agreement: float | None
    """Over the photographs that have a border and an edge; None where no photograph has."""
    evenness: float | None = None
    """Effective regions as a share of K, each counted from 1: 0 is one region for all, 1 as many as there can be. None
    where the store does not say K.
    """

    def figures(self) -> dict[str, float]:
        """Rounded, for a manifest."""
        found = {"size_entropy": self.size_entropy, "effective_regions": self.effective_regions}
        if self.edge_agreement is not None:
            found["edge_agreement"] = self.edge_agreement
        return {name: round(value, 4) for name, value in found.items()}


def measure_health(context: Context, store: Path, reader: PhotographReader) -> MaskHealth:
    """Of a mask store whose rows are those of the run's index."""
    entropies, regions, shares, agreements = [], [], [], []
    for row, masks in read_rows(store, range(min(SAMPLE, count_rows(store)))):
        context.stop.check()
        entropies.append(size_entropy(masks.labels))
        regions.append(effective_regions(masks.labels))
        if masks.clusters:
            shares.append((regions[-1] - 1) / max(masks.clusters - 1, 1))
        agreement = edge_agreement(reader(row), masks.labels)
        if agreement is not None:
            agreements.append(agreement)
    return MaskHealth(
        float(np.mean(entropies)),
        float(np.mean(regions)),
        float(np.mean(agreements)) if agreements else None,
        float(np.mean(shares)) if len(shares) == len(regions) else None,
    )

"""The empty mask store of a cycle, with what it says of where its masks come from."""

from pathlib import Path

from cyborgs.clustering.bootstrap import fitted_size
from schemas.architectures import feature_grid, layer_stride
from stages.context import Context
from stages.mask_sources import FixedMasks
from storage.index import Photograph
from storage.masks import create_mask_store


def create_store(context: Context, path: Path, photographs: list[Photograph], fixed: FixedMasks | None) -> None:
    """Make it, or describe it anew: of one that an earlier attempt made, the rows are kept."""
    config = context.config
    attributes: dict[str, object] = {"source": config.masks.source}
    if fixed is not None:
        grids = [fixed.grid(row) for row in range(len(photographs))]
    else:
        stride = 1 if config.masks.crf else layer_stride(config.masks.layer[0])
        grids = []
        for photograph in photographs:
            width, height = fitted_size(photograph.width, photograph.height, config.masks.max_side)
            grids.append(feature_grid(height, width, stride))
        attributes |= {
            "layer": list(config.masks.layer),
            "stride": stride,
            "checkpoint": context.input_manifest("checkpoint").content,
        }
    create_mask_store(
        path,
        rows=len(photographs),
        grid=(max(h for h, _ in grids), max(w for _, w in grids)),
        rows_per_shard=config.masks.rows_per_shard,
        attributes={
            **attributes,
            "cycle": context.step.cycle,
            "index": context.input_manifest("index").content,
            "config": context.run.record.config_digest,
        },
    )

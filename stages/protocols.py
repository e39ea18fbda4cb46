"""`cyborgs evaluate`: weights and data to figures, and these to metrics.json."""

import time
from collections.abc import Callable, Sequence

from cyborgs.evaluation.frozen import BackboneChangedError
from schemas.errors import DataError
from schemas.planned_protocols import ProtocolName
from schemas.protocols import ProtocolSettings
from schemas.results import Encoder, ProtocolResult, UsedData
from stages.device import choose_device, limited_threads
from stages.measurements import MEASURE
from stages.readers.samples import files_digest
from stages.weights import backbone_digest, load_weights
from storage.provenance import provenance
from storage.sources import expand


def evaluate_protocol(
    name: ProtocolName,
    settings: ProtocolSettings,
    *,
    weights: str,
    data: str,
    smoke: bool = False,
    cycle: int | None = None,
    encoder: Encoder = "online",
    tell: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> ProtocolResult:
    """Measure weights on a labelled data set.

    Args:
        tell: told which keys of the weights were used, and what was left out of the data.
        check: called again and again, whenever the backbone is; ends the measurement by raising.

    Raises:
        CyborgsError: bad input.
        BackboneChangedError: the protocol has changed what it was to measure.
    """
    started = time.monotonic()
    root = expand(data)
    if not root.is_dir():
        raise DataError(f"--data {data}: no such folder")
    loaded = load_weights(weights, architecture=settings.architecture, seed=settings.seed, cycle=cycle, encoder=encoder)
    used = loaded.used
    tell(
        f"weights {weights}: {used.name}, {used.architecture}, {used.used} of {len(loaded.backbone.state_dict())} keys"
        + (f"; left out {_few(used.left_out)}" if used.left_out else "")
    )
    device = choose_device(settings.device, setting="device")
    loaded.backbone.to(device)
    loaded.backbone.register_forward_pre_hook(lambda *_: check())
    with limited_threads(settings.threads):
        measured = MEASURE[name](loaded, root, settings)
    if backbone_digest(loaded.backbone) != used.digest:
        raise BackboneChangedError(f"{name}: the backbone is not what was loaded: its figures mean nothing")
    left_out: dict[str, int] = {}
    for split in measured.splits.values():
        for what, count in split.left_out.items():
            left_out[what] = left_out.get(what, 0) + count
            tell(f"left out: {count} {what}")
    for part, reason in measured.figures.skipped.items():
        tell(f"skipped {part}: {reason}")
    seeds = {"protocol": settings.seed} | ({"weights": used.seed} if used.seed is not None else {})
    return ProtocolResult(
        protocol=name,
        settings=settings.model_dump(mode="json", exclude={"device", "threads", "architecture", "seed"})
        | measured.chosen,
        smoke=smoke,
        weights=used,
        data=UsedData(
            path=str(root),
            digest=files_digest(path for split in measured.splits.values() for path in split.files),
            photographs={part: len(split.samples) for part, split in measured.splits.items()},
            left_out=left_out,
        ),
        seeds=seeds,
        figures={figure: round(value, 6) for figure, value in measured.figures.values.items()},
        skipped=measured.figures.skipped,
        seconds=round(time.monotonic() - started, 3),
        provenance=provenance(device=str(device)),
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

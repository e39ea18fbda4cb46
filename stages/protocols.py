"""`cyborgs evaluate`: weights and data to figures, and these to metrics.json."""

import time
from collections.abc import Sequence
from pathlib import Path

from cyborgs.evaluation.frozen import BackboneChangedError
from schemas.errors import ConfigError, DataError
from schemas.fine_tuning import FineTuningSettings
from schemas.planned_protocols import ProtocolName
from schemas.protocol_settings import ProtocolSettings
from schemas.results import Encoder, ProtocolResult, UsedData
from stages.attempt import Attempt
from stages.device import choose_device, limited_threads
from stages.measured import Measured
from stages.measurements import MEASURE
from stages.readers.samples import files_digest
from stages.transfer import TRANSFER
from stages.transfer.common import PLACEMENT
from stages.weights import Weights, backbone_digest, load_weights
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
    attempt: Attempt,
) -> ProtocolResult:
    """Measure weights on a labelled data set.

    Args:
        attempt: is told which keys of the weights were used, and what was left out of the data; a request to stop
            ends the measurement. A fine-tuning keeps its state there, and shares its steps among the team.

    Raises:
        CyborgsError: bad input.
        PreemptedError: somebody asked to stop.
        BackboneChangedError: the protocol has changed what it was to measure.
    """
    started = time.monotonic()
    root = expand(data)
    if not root.is_dir():
        raise DataError(f"--data {data}: no such folder")
    tell = attempt.tell if attempt.team.leads else (lambda _: None)
    loaded = load_weights(weights, architecture=settings.architecture, seed=settings.seed, cycle=cycle, encoder=encoder)
    used = loaded.used
    tell(
        f"weights {weights}: {used.name}, {used.architecture}, {used.used} of {len(loaded.backbone.state_dict())} keys"
        + (f"; left out {_few(used.left_out)}" if used.left_out else "")
    )
    with limited_threads(settings.threads):
        measured, device = _measure(name, loaded, root, settings, attempt)
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
    files = [path for split in measured.splits.values() for path in split.files] if attempt.team.leads else []
    return ProtocolResult(
        protocol=name,
        settings=settings.model_dump(mode="json", exclude={*PLACEMENT, "architecture", "seed"}) | measured.chosen,
        smoke=smoke,
        weights=used,
        data=UsedData(
            path=str(root),
            digest=files_digest(files),
            photographs={part: len(split.samples) for part, split in measured.splits.items()},
            left_out=left_out,
        ),
        seeds=seeds,
        figures={figure: round(value, 6) for figure, value in measured.figures.values.items()},
        skipped=measured.figures.skipped,
        seconds=round(time.monotonic() - started, 3),
        provenance=provenance(device=device),
    )


def _measure(
    name: ProtocolName, loaded: Weights, root: Path, settings: ProtocolSettings, attempt: Attempt
) -> tuple[Measured, str]:
    """What was found, and the device that it was found on."""
    if isinstance(settings, FineTuningSettings):
        device = choose_device(settings.device, attempt.team, setting="device")
        fine_tuned = next(protocol for known, protocol in TRANSFER.items() if known == name)
        return fine_tuned(loaded, root, settings, attempt), str(device)
    if attempt.team.size > 1:
        raise ConfigError(f"{name} measures a frozen backbone in one process: start it without torchrun")
    device = choose_device(settings.device, setting="device")
    loaded.backbone.to(device)
    loaded.backbone.register_forward_pre_hook(lambda *_: attempt.stop.check())
    protocol = next(protocol for known, protocol in MEASURE.items() if known == name)
    return protocol(loaded, root, settings), str(device)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

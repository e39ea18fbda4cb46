"""Protocols that a run measures by itself after chosen cycles, within its stage `evaluate`."""

from collections.abc import Iterator
from pathlib import Path, PurePath

from schemas.errors import ConfigError, DataError
from schemas.plan import bootstrap_epochs
from schemas.planned_protocols import PlannedProtocol
from schemas.protocols import load_protocol
from schemas.results import ProtocolResult, SkippedProtocol
from stages.attempt import Attempt
from stages.context import Context
from storage import layout


def _attempt(context: Context, title: str) -> Attempt:
    """A fine-tuning keeps its state beside what the stage keeps of its own."""
    name = f"{title}-state"
    return Attempt(
        stop=context.stop,
        kept=lambda: context.read_partial(name),
        keep=lambda data: context.save_partial(name, data),
        moving=context.heart.at if context.heart is not None else None,
    )


def measure_protocols(context: Context) -> dict[str, float]:
    """Write protocols/<title>.json for each that is due; the figures, named `<title>_<figure>`.

    One that cannot be measured, for its labels are not there, is skipped: the reason is told and stands in its file.
    What is measured is kept as partial work: an attempt that goes on after a stop measures the others alone.
    """
    assert context.step.cycle is not None
    figures: dict[str, float] = {}
    last = len(bootstrap_epochs(context.config)) - 1
    for planned in context.config.evaluate.protocols:
        if not planned.is_due(context.step.cycle, last=last):
            continue
        if planned.cycles == "checkpoints":
            for epoch, file in _kept_backbones(context):
                _measure(context, planned, epoch=epoch, weights=str(file))
        result = _measure(context, planned, epoch=None, weights=context.run.store.url)
        if result is not None:
            figures |= {f"{planned.title}_{name}": value for name, value in result.figures.items()}
    return figures


def _kept_backbones(context: Context) -> Iterator[tuple[int, Path]]:
    """Epochs within this cycle, and in the first one before it, after which a backbone was kept, and their files."""
    trained = context.standings.input(dict(context.step.inputs)["checkpoint"])
    for found in ([context.standings.input("warm-up")] if context.step.cycle == 0 else []) + [trained]:
        for epoch in sorted(context.config.schedule.checkpoint_epochs):
            if found.step.first_epoch < epoch <= found.step.last_epoch and epoch != context.step.last_epoch:
                yield epoch, context.run.store.fetch(f"{found.folder}/{layout.checkpoint_name(epoch)}")


def _measure(context: Context, planned: PlannedProtocol, *, epoch: int | None, weights: str) -> ProtocolResult | None:
    """One result, from its partial work where that is there; None where it is skipped.

    Args:
        epoch: of a kept backbone, whose file `weights` is; else `weights` is the run.
    """
    context.stop.check()
    from stages.protocols import evaluate_protocol  # brings scikit-learn's machines, which few runs need

    numerics = [f"device={context.device}", f"threads={context.config.numerics.threads}"]
    settings = load_protocol(planned.protocol, [f"seed={context.config.seed}", *planned.set, *numerics])
    place = layout.protocol_file(planned.title, epoch)
    partial = PurePath(place).stem
    kept = context.read_partial(partial)
    try:
        result = (
            evaluate_protocol(
                planned.protocol,
                settings,
                weights=weights,
                data=planned.data,
                cycle=context.step.cycle if epoch is None else None,
                attempt=_attempt(context, partial),
            )
            if kept is None
            else ProtocolResult.model_validate_json(kept)
        )
    except (ConfigError, DataError) as error:
        context.warn(f"{planned.title} skipped: {error}")
        skipped = SkippedProtocol(protocol=planned.protocol, skipped=str(error))
        context.run.store.write(f"{context.folder}/{place}", skipped.model_dump_json().encode())
        return None
    # What stands in an artifact follows from its key alone: no time, no host, no way in which the run was named.
    source = context.step.name if epoch is None else f"epoch {epoch}"
    used = result.weights.model_copy(update={"source": source})
    lasting = result.model_copy(update={"weights": used, "seconds": None, "provenance": None})
    text = lasting.model_dump_json(indent=1).encode()
    context.run.store.write(f"{context.folder}/{place}", text)
    context.save_partial(partial, text)
    return result

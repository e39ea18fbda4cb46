"""Protocols that a run measures by itself after chosen cycles, within its stage `evaluate`."""

from schemas.errors import ConfigError, DataError
from schemas.protocols import load_protocol
from schemas.results import ProtocolResult, SkippedProtocol
from stages.attempt import Attempt
from stages.context import Context

FOLDER = "protocols"


def _attempt(context: Context, protocol: str) -> Attempt:
    """A fine-tuning keeps its state beside what the stage keeps of its own."""
    name = f"{protocol}-state"
    return Attempt(
        stop=context.stop,
        kept=lambda: context.read_partial(name),
        keep=lambda data: context.save_partial(name, data),
        moving=context.heart.at if context.heart is not None else None,
    )


def measure_protocols(context: Context) -> dict[str, float]:
    """Write protocols/<protocol>.json for each that is due; the figures, named `<protocol>_<figure>`.

    One that cannot be measured, for its labels are not there, is skipped: the reason is told and stands in its file.
    What is measured is kept as partial work: an attempt that goes on after a stop measures the others alone.
    """
    assert context.step.cycle is not None
    figures: dict[str, float] = {}
    for planned in context.config.evaluate.protocols:
        if not planned.is_due(context.step.cycle):
            continue
        context.stop.check()
        from stages.protocols import evaluate_protocol  # brings scikit-learn's machines, which few runs need

        numerics = [f"device={context.device}", f"threads={context.config.numerics.threads}"]
        settings = load_protocol(planned.protocol, [f"seed={context.config.seed}", *planned.set, *numerics])
        place = f"{context.folder}/{FOLDER}/{planned.protocol}.json"
        kept = context.read_partial(planned.protocol)
        try:
            result = (
                evaluate_protocol(
                    planned.protocol,
                    settings,
                    weights=context.run.store.url,
                    data=planned.data,
                    cycle=context.step.cycle,
                    attempt=_attempt(context, planned.protocol),
                )
                if kept is None
                else ProtocolResult.model_validate_json(kept)
            )
        except (ConfigError, DataError) as error:
            context.warn(f"{planned.protocol} skipped: {error}")
            skipped = SkippedProtocol(protocol=planned.protocol, skipped=str(error))
            context.run.store.write(place, skipped.model_dump_json().encode())
            continue
        # What stands in an artifact follows from its key alone: no time, no host, no way in which the run was named.
        weights = result.weights.model_copy(update={"source": context.step.name})
        lasting = result.model_copy(update={"weights": weights, "seconds": None, "provenance": None})
        text = lasting.model_dump_json(indent=1).encode()
        context.run.store.write(place, text)
        context.save_partial(planned.protocol, text)
        figures |= {f"{planned.protocol}_{name}": value for name, value in result.figures.items()}
    return figures

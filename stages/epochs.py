"""The loop that warm-up and training share: steps in order, log, partial saves, a clean stop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from cyborgs.augmentation.dataset import Batch, StepSampler, ViewDataset, view_loader
from cyborgs.augmentation.order import steps_per_epoch
from cyborgs.training.pretraining import Metrics, Pretraining
from schemas.errors import DataError, RunError
from stages.checkpoint import backbone_of
from stages.context import Context
from stages.device import loader_workers
from stages.monitor import Monitor
from storage import layout
from storage.checkpoints import decode_tensors, encode_tensors

_STATE = "state.safetensors"


def count_steps(context: Context, rows: int) -> int:
    """Steps per epoch.

    Raises:
        DataError: fewer photographs than a batch.
    """
    try:
        return steps_per_epoch(rows, context.config.optimization.batch_size)
    except ValueError as error:
        raise DataError(f"run {context.run.store.url}: {error}") from None


def run_epochs(
    context: Context,
    pretraining: Pretraining,
    dataset: ViewDataset,
    *,
    rows: int,
    pairs: Callable[[int], int],
    train_step: Callable[[Batch, int], Metrics],
) -> dict[str, float]:
    """Run this step's epochs, from the partial state where there is one.

    Args:
        pairs: epoch -> pairs of views that a sample needs.
        train_step: (batch on the device, epoch) -> metrics.

    Returns:
        The metrics of the last step.
    """
    config, step = context.config, context.step
    per_epoch = count_steps(context, rows)
    first, last = step.first_epoch * per_epoch, step.last_epoch * per_epoch
    _resume(context, pretraining)
    assert first <= pretraining.step <= last
    sampler = StepSampler(
        rows,
        batch_size=config.optimization.batch_size,
        seed=config.seed,
        first_step=pretraining.step,
        last_step=last,
        pairs=pairs,
    )
    workers = loader_workers(config, context.device)
    loader = view_loader(dataset, sampler, workers=workers, pin_memory=context.device.type == "cuda")
    metrics: dict[str, float] = {}
    monitor = Monitor(context.warn)
    saved = logged = time.monotonic()
    logged_at = pretraining.step
    with context.progress(
        total=last - first,
        done=pretraining.step - first,
        unit="step",
        images_per_unit=config.optimization.batch_size,
    ) as progress:
        for batch in _readable(loader):
            epoch = pretraining.step // per_epoch
            on_device = {name: value.to(context.device, non_blocking=True) for name, value in batch.items()}
            taken = train_step(on_device, epoch)
            done = pretraining.step
            if done % config.placement.log_every_steps == 0 or done == last:
                metrics = _numbers(taken)
                _check_finite(context, metrics, done)
                monitor.look(metrics, done)
                images = (done - logged_at) * config.optimization.batch_size
                speed = images / max(time.monotonic() - logged, 1e-9)
                context.metrics.write(done, {"epoch": epoch, **metrics, "images_per_second": speed})
                logged, logged_at = time.monotonic(), done
                progress.advance(loss=metrics["loss"], epoch=str(epoch))
            else:
                progress.advance()
            if done % per_epoch == 0:
                _keep_checkpoint(context, pretraining, epochs=done // per_epoch)
            if done == last:
                break
            stopping = context.stop.asked  # looked at once: a signal after the save waits for the next step
            minutes = (time.monotonic() - saved) / 60
            if stopping or minutes >= config.placement.checkpoint_every_minutes:
                _check_finite(context, _numbers(taken), done)
                _save(context, pretraining)
                saved = time.monotonic()
            if stopping:
                context.stop.check()
    return metrics


def _readable(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; a loader process hands over its traceback as the message, of which the last line is for people."""
    try:
        yield from batches
    except DataError as error:
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error


def _save(context: Context, pretraining: Pretraining) -> None:
    data = encode_tensors(pretraining.tensors(), {"step": pretraining.step})
    context.run.store.write(context.partial(_STATE), data)


def _resume(context: Context, pretraining: Pretraining) -> None:
    data = context.read_partial(_STATE)
    if data is not None:
        tensors, position = decode_tensors(data)
        pretraining.load(tensors, step=position["step"])


def _keep_checkpoint(context: Context, pretraining: Pretraining, *, epochs: int) -> None:
    if epochs in context.config.schedule.checkpoint_epochs:
        data = encode_tensors(backbone_of(pretraining.tensors()), {"step": pretraining.step})
        context.run.store.write(f"{context.folder}/{layout.checkpoint_name(epochs)}", data)


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {name: v.item() if isinstance(v, Tensor) else v for name, v in metrics.items()}


def _check_finite(context: Context, metrics: dict[str, float], step: int) -> None:
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise RunError(
            f"{context.step.name}: {wrong[0]} is not finite at step {step}; the last saved state is kept. "
            "Try a lower optimization.learning_rate, or numerics.precision=float32"
        )

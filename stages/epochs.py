"""The loop that warm-up and training share: steps in order, log, partial saves, a clean stop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor

from cyborgs.augmentation.dataset import Batch, StepSampler, ViewDataset, view_loader
from cyborgs.augmentation.order import steps_per_epoch
from cyborgs.training.state import Metrics, TrainingState
from schemas.config import RunConfig
from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError, DataError, PreemptedError, RunError, UnreachableError
from stages.checkpoint import REMEDY, backbone_of, finite_tensors
from stages.context import Context
from stages.device import loader_workers
from stages.metrics_log import MetricsLog, read_metrics
from stages.monitor import Monitor
from stages.progress import Progress
from storage import layout
from storage.alarms import note_alarms, note_going_on, note_of, note_sounded
from storage.checkpoints import decode_tensors, encode_tensors
from storage.provenance import code_version

_STATE = "state"


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
    pretraining: TrainingState,
    dataset: ViewDataset,
    *,
    rows: int,
    pairs: Callable[[int], int],
    train_step: Callable[[Batch, int], Metrics],
) -> dict[str, float]:
    """Run this step's epochs, from the partial state where there is one.

    Args:
        pairs: epoch -> pairs of views that a sample needs.
        train_step: (this process' share of the batch, on the device; epoch) -> metrics of the global batch.

    Returns:
        The metrics of the last step; none where another process leads.
    """
    config, step, team = context.config, context.step, context.team
    per_epoch = count_steps(context, rows)
    first, last = step.first_epoch * per_epoch, step.last_epoch * per_epoch
    kept, latest = _resume(context, pretraining)
    assert first <= pretraining.step <= last
    sampler = StepSampler(
        rows,
        batch_size=config.optimization.batch_size,
        seed=config.seed,
        first_step=pretraining.step,
        last_step=last,
        pairs=pairs,
        rank=team.rank,
        world_size=team.size,
    )
    workers = loader_workers(config, context.device, team)
    loader = view_loader(dataset, sampler, workers=workers, pin_memory=context.device.type == "cuda")
    with context.progress(
        total=last - first,
        done=pretraining.step - first,
        unit="step",
        images_per_unit=config.optimization.batch_size,
    ) as progress:
        record = None
        if context.log is not None:
            record = _Record(context, context.log, pretraining, progress, last, kept, latest)
        for batch in _readable(loader):
            epoch = pretraining.step // per_epoch
            # Rows name random streams, which are drawn from on the processor.
            on_device = {
                name: value if name == "row" else value.to(context.device, non_blocking=True)
                for name, value in batch.items()
            }
            try:
                taken = train_step(on_device, epoch)
            except FloatingPointError as error:
                raise _not_finite(context, str(error), pretraining.step + 1) from None
            if record is not None:
                record.note(taken, epoch)
                if pretraining.step % per_epoch == 0:
                    record.keep_checkpoint(epochs=pretraining.step // per_epoch)
            # Asked once a step: a signal after the save waits for the next one.
            stopping, due, alarmed = team.any(
                context.stop.asked,
                record is not None and record.save_is_due(),
                record is not None and bool(record.alarms),
            )
            if pretraining.step == last and not alarmed:
                break
            if stopping or due or alarmed:
                if record is not None:
                    record.save(taken)
                _await_save(context, pretraining.step)
            if alarmed:
                if record is not None:
                    record.note_alarms()
                raise PreemptedError("paused at an alarm; what was done is saved, the same command goes on")
            if stopping:
                context.stop.ask()
                context.stop.check()
    return record.latest if record is not None else {}


class _Record:
    """What one process does for all: the log, the monitor, the progress that is shown, partial saves."""

    def __init__(
        self,
        context: Context,
        log: MetricsLog,
        pretraining: TrainingState,
        progress: Progress,
        last: int,
        kept: dict[str, str],
        latest: dict[str, float],
    ) -> None:
        self._context, self._log, self._pretraining, self._progress = context, log, pretraining, progress
        self._last, self._kept = last, kept
        self._saved = self._logged = time.monotonic()
        self._logged_at = pretraining.step
        self.latest = latest
        self.alarms: dict[str, str] = {}
        """At which the run is to pause: name -> in words."""
        self._monitor = Monitor(judge_loss_from=_steps_to_fill_queue(context.config))
        self._noted = note_of(context.run, context.step, context.key)
        note_going_on(context.run, context.step, context.key)
        for line in read_metrics(context.run, context.step, context.key):
            if line["step"] <= pretraining.step:  # what earlier attempts saw
                self._look(line, line["step"], seen=True)

    def note(self, taken: Metrics, epoch: int) -> None:
        """A step was taken."""
        done, placement = self._pretraining.step, self._context.config.placement
        if done % placement.log_every_steps and done != self._last:
            self._progress.advance()
            return
        self.latest = _numbers(taken)
        _check_finite(self._context, self.latest, done)
        self._look(self.latest, done)
        images = (done - self._logged_at) * self._context.config.optimization.batch_size
        speed = images / max(time.monotonic() - self._logged, 1e-9)
        self._context.record(done, {"epoch": epoch, **self.latest, "images_per_second": speed})
        self._logged, self._logged_at = time.monotonic(), done
        self._progress.advance(loss=self.latest["loss"], epoch=str(epoch))

    def _look(self, metrics: Mapping[str, float], step: int, *, seen: bool = False) -> None:
        """Judge what was logged at a step; of what an earlier attempt has `seen` it has said what there was to say."""
        sounding = self._monitor.look(metrics, step)
        for name, words in sounding.items():
            if seen and name in self._noted.sounded:
                self._context.warnings.append(words)
            else:
                self._context.warn(words)
        if sounding.keys() - self._noted.sounded and self._context.stop.owns_work():
            note_sounded(self._context.run, self._context.step, self._context.key, sounding)
        if self._context.config.placement.pause_on_alarm:
            self.alarms |= {name: words for name, words in sounding.items() if name not in self._noted.names}

    def note_alarms(self) -> None:
        """Leave word of what the stage pauses at, once its state is saved; not where another goes on from there."""
        if not self._context.stop.owns_work():
            self._context.stop.check()
        note_alarms(
            self._context.run,
            self._context.step,
            self._context.key,
            names=frozenset(self.alarms),
            words="; ".join(self.alarms.values()),
        )

    def save_is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        minutes = (time.monotonic() - self._saved) / 60
        return minutes >= self._context.config.placement.checkpoint_every_minutes

    def save(self, taken: Metrics) -> None:
        """Save the state; never over that of a process that took the work over."""
        if not self._context.stop.owns_work():
            return  # the next step stops
        _check_finite(self._context, _numbers(taken), self._pretraining.step)
        position = {
            "step": self._pretraining.step,
            "kept": self._kept,
            "latest": self.latest,
            "code": code_version(),
        }
        self._log.flush()
        self._context.save_partial(_STATE, encode_tensors(finite_tensors(self._pretraining), position))
        self._saved = time.monotonic()

    def keep_checkpoint(self, *, epochs: int) -> None:
        """Keep the backbone after an epoch that `schedule.checkpoint_epochs` names."""
        if epochs not in self._context.config.schedule.checkpoint_epochs:
            return
        name = layout.checkpoint_name(epochs)
        data = encode_tensors(backbone_of(finite_tensors(self._pretraining)), {"step": self._pretraining.step})
        self._context.write(name, data)
        self._kept[name] = self._context.written[name]


def _await_save(context: Context, step: int) -> None:
    """Nobody goes on before the state is saved: whoever ends takes the others along, and whoever takes the next step
    would wait in a collective, which gives up in the end.
    """
    word = f"saved {step}"
    if context.team.leads:
        context.team.tell(word)
    else:
        context.team.hear(word)


def _readable(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; a loader process hands over its traceback as the message, of which the last line is for people."""
    try:
        yield from batches
    except (DamagedArtifactError, DataError, UnreachableError) as error:
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error


def _resume(context: Context, pretraining: TrainingState) -> tuple[dict[str, str], dict[str, float]]:
    """Take up the partial state where there is one; digests of the checkpoints that were kept before it, by name, and
    the metrics that were logged last.
    """
    data = context.read_partial(_STATE)
    if data is None:
        return {}, {}
    tensors, position = decode_tensors(data)
    kept: dict[str, str] = position["kept"]
    for name, digest in kept.items():
        path = f"{context.folder}/{name}"
        if context.run.store.size(path) is None or digest_bytes(context.run.store.read(path)) != digest:
            # What came before the saved state is reached from the start alone.
            context.warn(f"{context.run.store.url}/{path} is damaged: {context.step.name} starts anew")
            context.run.store.delete(context.partial(_STATE))
            return {}, {}
    try:
        pretraining.load(tensors, step=position["step"])
    except (KeyError, ValueError, RuntimeError) as error:
        written_by = f"{position.get('code', 'an earlier version')}, this is {code_version()}"
        raise RunError(
            f"{context.run.store.url}/{context.partial(_STATE)} does not fit (written by {written_by}): go on with the "
            f"version that wrote it, or delete that file to let {context.step.name} start anew"
        ) from error
    context.written |= kept
    return kept, position.get("latest", {})


def _steps_to_fill_queue(config: RunConfig) -> int:
    """Of the run, before the negatives are keys of photographs; 0 for methods without a queue."""
    return config.train.queue // config.optimization.batch_size if config.train.method in ("moco", "densecl") else 0


def _numbers(metrics: Metrics) -> dict[str, float]:
    return {name: v.item() if isinstance(v, Tensor) else v for name, v in metrics.items()}


def _check_finite(context: Context, metrics: dict[str, float], step: int) -> None:
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise _not_finite(context, f"{wrong[0]} is not finite", step)


def _not_finite(context: Context, what: str, step: int) -> RunError:
    return RunError(f"{context.step.name}: {what} at step {step}; the last saved state is kept. {REMEDY}")

"""Fine-tuning as a resumable job: steps in order, progress, saved states, a clean stop, and what is measured with."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cyborgs.distributed import World
from cyborgs.transfer.batch_norm import refresh_statistics
from cyborgs.transfer.fine_tuning import FineTuning, Schedule
from cyborgs.transfer.samples import DrawnSamples
from schemas.digests import digest_json
from schemas.errors import ConfigError, DataError, RunError
from schemas.fine_tuning import FineTuningSettings
from stages.attempt import Attempt
from stages.progress import Progress
from storage.checkpoints import decode_tensors, encode_tensors
from storage.local import LocalStore

Drawn = TypeVar("Drawn")


def schedule_of(settings: FineTuningSettings, steps: int) -> Schedule:
    """The optimiser's settings over so many steps."""
    return Schedule(
        steps=steps,
        learning_rate=settings.learning_rate,
        head_factor=settings.head_factor,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        norm_weight_decay=settings.weight_decay if settings.norm_weight_decay is None else settings.norm_weight_decay,
        kind=settings.lr_schedule,
        milestones=tuple(round(share * steps) for share in settings.milestones),
        decay=settings.decay,
        power=settings.power,
        floor=settings.min_learning_rate,
        warmup_steps=settings.warmup_steps,
        warmup_factor=settings.warmup_factor,
    )


def check_batch(settings: FineTuningSettings, world: World) -> None:
    """Raises ConfigError where the processes cannot share a batch."""
    if settings.batch_size % world.size:
        raise ConfigError(
            f"batch_size {settings.batch_size} cannot be shared by {world.size} processes: set a multiple of it"
        )


def fine_tune(
    name: str,
    network: nn.Module,
    samples: DrawnSamples[Any, Drawn],
    losses: Callable[[nn.Module, list[Drawn]], dict[str, Tensor]],
    settings: FineTuningSettings,
    *,
    is_head: Callable[[str], bool],
    steps: int,
    identity: list[Any],
    world: World,
    attempt: Attempt,
    autocast: bool = True,
) -> None:
    """Fine-tune a network in place, from where an earlier attempt stopped.

    Args:
        losses: of the network on this process' share of a batch, by name.
        is_head: whether a parameter of that name is new.
        identity: all that the outcome depends on; a saved state of anything else is left alone, and lost.
        autocast: false where the network sees to `precision` itself.

    Raises:
        PreemptedError: somebody asked to stop; the state is saved.
        RunError: a loss is no longer finite.
    """
    check_batch(settings, world)
    bfloat16 = autocast and settings.precision == "bfloat16"
    device = next(network.parameters()).device
    world.synchronise_batch_norm(network, device)
    tuning = FineTuning(
        network,
        schedule_of(settings, steps),
        is_head=is_head,
        seed=settings.seed,
        bfloat16=bfloat16,
        world=world,
    )
    key = digest_json([name, steps, world.size, *identity])
    record = _Record(name, tuning, key, settings, attempt)
    record.resume()
    _check_together(tuning.step, world)
    if tuning.step < steps and attempt.keep is None and attempt.team.leads:
        attempt.tell("no --out: nothing is saved on the way, a stop loses what was done")

    def batches(first: int, last: int) -> Iterator[list[Drawn]]:
        return samples.batches(first, last, batch_size=settings.batch_size, world=world)

    with Progress(
        name,
        total=steps,
        done=tuning.step,
        unit="step",
        images_per_unit=settings.batch_size,
        tell=attempt.moving if attempt.team.leads else None,
    ) as progress:
        for batch in batches(tuning.step, steps):
            try:
                taken = tuning.take(lambda network, batch=batch: losses(network, batch))  # type: ignore[misc]
            except FloatingPointError as error:
                raise RunError(
                    f"{name}: {error} at step {tuning.step + 1}: set a lower learning_rate, or precision=float32"
                ) from None
            progress.advance(1, **taken)
            stopping, due = attempt.team.any(attempt.stop.asked, record.is_due())
            if stopping or due or tuning.step == steps:
                record.save()
            if stopping:
                attempt.stop.ask()
                attempt.stop.check()
    assert tuning.step == steps
    if settings.refresh_batch_norm:
        refresh_statistics(
            network,
            batches(steps, steps + settings.refresh_batch_norm),
            losses,
            seed=settings.seed,
            bfloat16=bfloat16,
            world=world,
        )
    world.share_buffers(network)
    network.eval()


def _check_together(step: int, world: World) -> None:
    """Raises ConfigError where processes would go on from different steps, for they do not see one saved state."""
    if len(set(world.gather(torch.tensor([step])).tolist())) > 1:
        raise ConfigError("--out: the processes do not see the same saved state: name a folder that all machines share")


def write_network(
    name: str, network: nn.Module, settings: FineTuningSettings, attempt: Attempt, **described: str | list[str]
) -> None:
    """Write the fine-tuned network where somebody asked for it, with the protocol's settings.

    Args:
        described: what else it takes to build it again.
    """
    path = attempt.network_file
    if path is None or not attempt.team.leads:
        return
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    kept = {"protocol": name, "settings": settings.model_dump(mode="json"), **described}
    LocalStore(path.absolute().parent).write(path.name, encode_tensors(tensors, kept))
    attempt.tell(f"network: {path}")


class _Record:
    """What is saved of a fine-tuning, and when. Only the leading process writes; all read."""

    def __init__(self, name: str, tuning: FineTuning, key: str, settings: FineTuningSettings, attempt: Attempt) -> None:
        self._name, self._tuning, self._key, self._attempt = name, tuning, key, attempt
        self._seconds, self._saved = 60 * settings.save_minutes, time.monotonic()

    def is_due(self) -> bool:
        """Whether this process thinks that it is time to save."""
        return self._attempt.team.leads and time.monotonic() - self._saved >= self._seconds

    def resume(self) -> None:
        """Take up what was saved, where it is of the same fine-tuning."""
        data = self._attempt.kept()
        if data is None:
            return
        tensors, position = decode_tensors(data)
        if position["key"] != self._key:
            if self._attempt.team.leads:
                self._attempt.tell("what was saved is of other settings, weights or data: it starts anew")
            return
        self._tuning.load(tensors, step=position["step"])
        if self._attempt.team.leads:
            self._attempt.tell(f"goes on from step {self._tuning.step}")

    def save(self) -> None:
        """Save where it can be, and let the others wait for it."""
        team, word = self._attempt.team, f"{self._name} saved {self._tuning.step}"
        if not team.leads:
            team.hear(word)
            return
        if self._attempt.keep is not None:
            wrong = [n for n, t in self._tuning.tensors().items() if t.is_floating_point() and not t.isfinite().all()]
            if wrong:
                raise RunError(f"{self._name}: {wrong[0]} is not finite after step {self._tuning.step}: set a lower "
                               "learning_rate, or precision=float32")  # fmt: skip
            position = {"key": self._key, "step": self._tuning.step}
            self._attempt.keep(encode_tensors(self._tuning.tensors(), position))
        self._saved = time.monotonic()
        team.tell(word)


def photographs_on(images: list[Tensor], device: torch.device) -> Tensor:
    """(B, 3, S, S) uint8 on the device, of photographs of one size."""
    stacked = torch.stack(images)
    return (stacked.pin_memory() if device.type == "cuda" else stacked).to(device, non_blocking=True)


def need_labels(count: int, split: str, left_out: dict[str, int]) -> None:
    """Raises DataError where there is nothing to learn from."""
    if not count:
        why = "; ".join(f"{number} {what}" for what, number in left_out.items() if number)
        hint = "; for boxes alone: --set masks=false" if "segmentation" in why else ""
        raise DataError(f"--data: {split} holds nothing to learn from" + (f" ({why}{hint})" if why else ""))

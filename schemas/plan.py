"""The plan: which stages a config leads to, in order, and what each reads (Algorithm 3). Pure functions."""

from dataclasses import dataclass
from typing import Any, Literal

from schemas.config import NetworkConfig, RunConfig
from schemas.digests import digest_json
from schemas.errors import ConfigError
from schemas.masks import MasksConfig
from schemas.settings import Settings
from schemas.stages import CYCLE_STAGES, StageName

FORMAT_VERSION: Literal[1] = 1
"""Of everything written to a run. It enters the keys: an older run's artifacts are never taken for today's."""


@dataclass(frozen=True)
class Step:
    """One stage at its place in the run."""

    stage: StageName
    cycle: int | None = None
    first_epoch: int = 0
    """Epochs trained before this step, W at the first masks."""
    last_epoch: int = 0
    """Epochs trained after it; the same for a stage that does not train."""
    schedule_epochs: int = 0
    """E of the schedules that it trains under: the run's, or of a part that was extended since, what it was then."""
    inputs: tuple[tuple[str, str], ...] = ()
    """(role, name of the step whose artifact plays it)."""

    @property
    def name(self) -> str:
        """Such as `train cycle 1`."""
        return step_name(self.stage, self.cycle)


def step_name(stage: StageName, cycle: int | None = None) -> str:
    """How a step is called in messages and in Prefect."""
    return stage if cycle is None else f"{stage} cycle {cycle}"


def bootstrap_epochs(config: RunConfig) -> list[int]:
    """Epochs before which masks are made: W, every t > W with t % N == 0, and where a finished run was extended."""
    schedule = config.schedule
    first, every = schedule.warmup_epochs, schedule.bootstrap_every_epochs
    later = range(every * (first // every + 1), schedule.epochs, every) if every else ()
    return sorted({first, *later, *schedule.extended_from})


def schedule_epochs(config: RunConfig, last_epoch: int) -> int:
    """E of the schedules under which a step that ends after `last_epoch` epochs trains."""
    return min(total for total in (*config.schedule.extended_from, config.schedule.epochs) if total >= last_epoch)


def plan(config: RunConfig) -> list[Step]:
    """All steps of a run, in an order in which each finds its inputs."""
    index: StageName = "index-images"
    warm_up: StageName = "warm-up"
    starts = bootstrap_epochs(config)
    steps = [
        Step(index),
        Step(
            warm_up,
            last_epoch=config.schedule.warmup_epochs,
            schedule_epochs=schedule_epochs(config, config.schedule.warmup_epochs),
            inputs=(("index", index),),
        ),
    ]
    checkpoint = step_name(warm_up)
    for cycle, first in enumerate(starts):
        last = starts[cycle + 1] if cycle + 1 < len(starts) else config.schedule.epochs
        train, read = step_name("train", cycle), (("index", index), ("checkpoint", checkpoint))
        if makes_masks(config, cycle):
            # Masks that do not come from the encoder need no checkpoint.
            of_masks = read if config.masks.source == "bootstrap" else read[:1]
            if config.masks.keep_if_worse and cycle:
                of_masks = (*of_masks, ("previous_masks", step_name("bootstrap-masks", cycle - 1)))
            steps.append(Step("bootstrap-masks", cycle, first, first, inputs=of_masks))
        masks = (
            [("masks", step_name("bootstrap-masks", made))] if (made := masks_cycle(config, cycle)) is not None else []
        )
        before = [("previous_masks", step_name("bootstrap-masks", made - 1))] if made else []
        total = schedule_epochs(config, last)
        steps.append(Step("train", cycle, first, last, total, (*read, *masks)))
        judged = (("index", index), ("checkpoint", train), *masks, *before)
        steps.append(Step("evaluate", cycle, last, last, inputs=judged))
        checkpoint = train
    return steps


def masks_cycle(config: RunConfig, cycle: int) -> int | None:
    """The cycle whose masks a cycle trains on: its own, the first where masks are made once, None without masks."""
    if config.train.method != "cyborgs":
        return None
    return cycle if config.masks.source == "bootstrap" else 0


def makes_masks(config: RunConfig, cycle: int) -> bool:
    """Whether a cycle begins with masks of its own."""
    return masks_cycle(config, cycle) == cycle


def checkpoints_kept(config: RunConfig) -> set[str]:
    """Names of the steps whose checkpoint stays when the run has ended (placement.keep_checkpoints); the last does."""
    policy = config.placement.keep_checkpoints
    steps = [step for step in plan(config) if step.stage in ("warm-up", "train")]
    kept = {steps[-1].name}
    if isinstance(policy, tuple):
        return kept | {step.name for step in steps if step.last_epoch in policy}
    kind, _, count = policy.partition(":")
    if kind == "every":
        return kept | {step.name for step in steps if step.cycle is not None and (step.cycle + 1) % int(count) == 0}
    return {step.name for step in (steps[-int(count) :] if kind == "last" else steps)}


def find_step(config: RunConfig, stage: StageName, cycle: int | None) -> Step:
    """The step of that stage and cycle.

    Raises:
        ConfigError: the cycle is missing, superfluous, or beyond the last.
    """
    if stage in CYCLE_STAGES and cycle is None:
        raise ConfigError(f"{stage} happens once per cycle: say which with --cycle")
    if stage not in CYCLE_STAGES and cycle is not None:
        raise ConfigError(f"{stage} happens once per run: leave out --cycle")
    for step in plan(config):
        if (step.stage, step.cycle) == (stage, cycle):
            return step
    if stage == "bootstrap-masks" and cycle is not None and cycle < len(bootstrap_epochs(config)):
        if config.train.method != "cyborgs":
            raise ConfigError(f"bootstrap-masks: {config.train.method} needs no masks")
        raise ConfigError(f"bootstrap-masks cycle {cycle}: {config.masks.source} masks are made once, in cycle 0")
    raise ConfigError(f"cycle {cycle}: this run has cycles 0 to {len(bootstrap_epochs(config)) - 1}")


PARTS: dict[StageName, tuple[str, ...]] = {
    "index-images": ("index",),
    "warm-up": ("network", "augmentation", "schedule", "optimization", "vmf", "masks", "numerics"),
    "bootstrap-masks": ("network", "masks", "numerics"),
    "train": ("network", "augmentation", "schedule", "optimization", "vmf", "train", "masks", "numerics"),
    "evaluate": ("network", "augmentation", "masks", "train", "evaluate", "numerics"),
}
NETWORK_SHAPE = tuple(name for name in NetworkConfig.model_fields if name != "start")
READ_FROM: dict[tuple[StageName, str], tuple[str, ...]] = {
    ("warm-up", "schedule"): ("epochs", "warmup_epochs"),
    ("warm-up", "masks"): ("layer",),
    ("train", "schedule"): ("epochs",),
    ("train", "masks"): ("layer",),
    ("bootstrap-masks", "network"): ("architecture",),
    ("bootstrap-masks", "numerics"): ("precision", "threads"),
    ("train", "network"): NETWORK_SHAPE,
    ("evaluate", "network"): NETWORK_SHAPE,
    ("evaluate", "augmentation"): ("crop_size",),
    ("evaluate", "masks"): ("layer", "max_side"),
    ("evaluate", "train"): ("regions",),
    ("evaluate", "numerics"): ("precision", "threads"),
}
"""Where a stage reads only some settings of a part; its key follows those alone."""


def _named(group: type[Settings], *prefixes: str) -> tuple[str, ...]:
    return tuple(name for name in group.model_fields if name.startswith(prefixes))


SWITCHES: tuple[tuple[str, str, Any, tuple[str, ...]], ...] = (
    ("masks", "crf", False, _named(MasksConfig, "crf")),
    ("masks", "keep_if_worse", 0.0, ("keep_if_worse",)),
    ("masks", "source", "bootstrap", _named(MasksConfig, "source", "grid_", "felzenszwalb_", "search_")),
    ("evaluate", "protocols", [], ("protocols",)),
    ("optimization", "ema_schedule", "cosine", ("ema_schedule",)),
    ("train", "method", "cyborgs", ("method", "queue", "dense_weight")),
)
"""A switch, its value when off, and the settings that count only while it is on: off, none of them enters a key. So a
run that was made before they were there keeps its artifacts; what comes to be added later belongs here too.
"""
_MASKS_MADE_ONCE = (*_named(MasksConfig, "source", "grid_", "felzenszwalb_", "search_"), "max_side", "rows_per_shard")
"""All that matters for masks that do not come from the encoder."""


def config_part(config: RunConfig, step: Step) -> dict[str, Any]:
    """The settings that define this step's result."""
    part: dict[str, Any] = {"seed": config.seed}
    for name in PARTS[step.stage]:
        settings = getattr(config, name).model_dump(mode="json")
        off = {
            each
            for group, switch, value, ruled in SWITCHES
            if group == name and settings[switch] == value
            for each in ruled
        }
        wanted = READ_FROM.get((step.stage, name), tuple(settings))
        if (step.stage, name) == ("bootstrap-masks", "masks") and settings["source"] != "bootstrap":
            wanted = _MASKS_MADE_ONCE
        part[name] = {key: settings[key] for key in wanted if key not in off}
    if step.stage in ("warm-up", "train"):
        kept = [e for e in config.schedule.checkpoint_epochs if step.first_epoch < e <= step.last_epoch]
        part["schedule"] |= {
            "epochs": step.schedule_epochs,
            "first_epoch": step.first_epoch,
            "last_epoch": step.last_epoch,
            "keep": kept,
        }
    if step.stage == "warm-up":
        # What the file says matters, not where it lies: its digest is among the pins.
        part["network"]["start"] = "random" if config.network.start == "random" else "given"
        if config.train.method != "cyborgs":
            # Its state has what other methods have not, such as a queue.
            part["train"] = {"method": config.train.method, "queue": config.train.queue}
    if step.stage == "bootstrap-masks" and config.masks.source_paths:
        part["masks"]["source_paths"] = "given"  # as above
    if step.stage == "bootstrap-masks" and step.cycle == 0:
        part["masks"].pop("keep_if_worse", None)  # there are no masks before the first
    return part


def ingredients(config: RunConfig, step: Step, *, inputs: dict[str, str], pins: dict[str, str]) -> dict[str, Any]:
    """What the key of a step's artifact is made of.

    Args:
        inputs: role -> content digest of the artifact that is read.
        pins: digests of what came from outside when the run was created: the list of photographs for
            `index-images`, the start weights for `warm-up`, a person's masks for `bootstrap-masks`.
    """
    wanted = {"index-images": "photographs", "warm-up": "start", "bootstrap-masks": "masks"}.get(step.stage)
    return {
        "format": FORMAT_VERSION,
        "stage": step.stage,
        "cycle": step.cycle,
        "config": config_part(config, step),
        "inputs": inputs,
        "pins": {wanted: pins[wanted]} if wanted in pins else {},
    }


def artifact_key(parts: dict[str, Any]) -> str:
    """The key under which an artifact with these ingredients stands: 20 hexadecimal characters."""
    return digest_json(parts)[:20]

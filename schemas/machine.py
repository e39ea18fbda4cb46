"""Settings of where and how a run is computed: numerics, pinned when it is created, and placement, free to change."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.settings import Settings
from schemas.stages import StageName

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


def _as_policy(value: Any) -> Any:
    """`all`, `last:K`, `every:N`, or epochs by number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, list | tuple) and value and all(type(epoch) is int and epoch >= 0 for epoch in value):
        return tuple(value)
    if isinstance(value, str) and re.fullmatch(r"all|(last|every):[1-9]\d*", value):
        return value
    raise ValueError(f"{value!r}: choose all, last:K, every:N, or a list of epochs such as [100, 400]")


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice: name it once")
    return names


class NumericsConfig(Settings):
    """Changes results in rounding or more; pinned when the run is created."""

    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Of the networks; losses are float32 always. "auto": bfloat16 where the processor computes in it."""
    world_size: Annotated[int, Field(ge=1)] = 1
    """Processes that share a step, each with an equal part of the batch."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Micro-batches in which a process takes its part of the batch: less memory, the same loss; batch-norm sees one."""
    compile: bool = False
    """Let torch compile the backbones while training: faster steps after a minute; needs a C++ compiler on CPUs."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per process; left out: its share of the cores of the machine that creates the run."""


class PlacementConfig(Settings):
    """Where and how it runs; never changes a result."""

    data: tuple[str, ...] = ()
    """Folders of photographs, COCO json files, or "demo-tiles"; the command line's --data goes first."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:1"."""
    loader_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read and augment; left out: chosen by device and cores."""
    launcher: Literal["auto", "process", "inline", "deployment"] = "auto"
    """Stages as child processes, inline (debugging), as deployments; auto: as CYBORGS_LAUNCHER says, else process."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often in a row a stage that crashed, was preempted or lost starts again without getting further; 0: never."""
    lost_after_minutes: Annotated[float, Field(gt=0)] = 3.0
    """A stage in a container that shows no sign of life for so long is given up."""
    checkpoint_every_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Training saves what it has reached this often."""
    keep_checkpoints: Annotated[str | tuple[int, ...], BeforeValidator(_as_policy)] = "all"
    """Checkpoints that stay when no stage needs them: all, last:K, every:N cycles, or epochs such as [100, 400]."""
    pause_after: Annotated[tuple[StageName, ...], BeforeValidator(_as_names)] = ()
    """Stages after which the run stops for a look, such as bootstrap-masks; the same command goes on."""
    pause_on_alarm: bool = False
    """Stop, all saved, where an alarm of the learning monitor sounds, once for each; the same command goes on."""
    log_every_steps: Annotated[int, Field(ge=1)] = 10
    """Steps between two lines of the metrics log."""
    trackers: Annotated[tuple[TrackerName, ...], BeforeValidator(_as_names), AfterValidator(_each_once)] = (
        "tensorboard",
    )
    """Who shows the metrics: tensorboard (files in the run), wandb, mlflow. What is not named is sent nothing."""
    tracking_project: Annotated[str, Field(min_length=1)] = "cyborgs"
    """Project of Weights & Biases, or experiment of MLflow, that the run is filed under."""

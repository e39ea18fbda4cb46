"""`cyborgs study --dry-run`: runs, what they share, hours and disk."""

import math
import os
import sys
import time

from cli.costs import span
from cli.show import print_table
from schemas.config import RunConfig
from schemas.estimates import estimate_step, readable_size, storage_bytes
from schemas.study import Study
from schemas.study_plan import planned_steps
from storage.photographs import list_candidates
from storage.sources import absolute


def print_study_costs(
    study: Study, data: tuple[str, ...], *, root: str, gpus: int, seconds_per_image: float | None
) -> None:
    """Print them.

    Raises:
        CyborgsError: photographs that are not there.
    """
    images = len(list_candidates(tuple(absolute(source) for source in data))) if data else 0
    configs = {
        f"{variant}-{seed}": study.config(variant, seed)
        for seed in study.seeds
        for variant, each in study.variants.items()
        if each.weights is None
    }
    if seconds_per_image is None and configs:
        seconds_per_image = _measured(next(iter(configs.values())))
    steps = planned_steps(configs)
    rows: list[tuple[str, ...]] = []
    total_seconds, total_bytes = 0.0, 0
    for member in configs:
        own = [each for each in steps if each.members[0] == member]
        shared = sum(member in each.members[1:] for each in steps)
        seconds = sum(
            estimate_step(
                each.config,
                each.step,
                images=images,
                gpus=gpus,
                seconds_per_image=seconds_per_image if seconds_per_image is not None else math.nan,
                cores=os.cpu_count() or 1,
            )
            for each in own
        )
        # A shared artifact is copied, so that each run can be taken away by itself.
        size = sum(storage_bytes(each.config, each.step, images=images) for each in steps if member in each.members)
        total_seconds, total_bytes = total_seconds + seconds, total_bytes + size
        rows.append((member, str(len(own)), str(shared), span(seconds), readable_size(size)))
    untrained = [name for name, each in study.variants.items() if each.weights is not None]
    rows += [(f"{name} ({len(study.seeds)} seeds)", "measured alone", "", "", "") for name in untrained]
    rows.append(("in all", str(len(steps)), "", span(total_seconds), readable_size(total_bytes)))
    print(
        f"{root}: {len(configs)} runs on {images:,} photographs, "
        f"{len(study.variants)} variants x {len(study.seeds)} seeds"
    )
    print_table(("run", "stages of its own", "shared", "time", "storage"), rows)
    for each in steps:
        if len(each.members) > 1:
            others = ", ".join(each.members[1:4]) + (" …" if len(each.members) > 4 else "")
            print(f"shared: {each.step.name}, made by {each.members[0]}, taken over by {others}")
    protocols = ", ".join(planned.protocol for planned in study.measure)
    print(f"measured: {protocols}; their time is not in the table")


def _measured(config: RunConfig) -> float:
    """Seconds of a training step per photograph on this machine, from a few steps on made-up views."""
    print("measuring a training step on this machine …", file=sys.stderr, flush=True)
    from flows.numerics import pin_numerics
    from stages.speed import seconds_per_image

    started = time.monotonic()
    seconds = seconds_per_image(pin_numerics(config))
    print(f"{seconds:.4f} s a photograph (measured in {time.monotonic() - started:.0f} s)", file=sys.stderr)
    return seconds

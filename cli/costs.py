"""What a run will cost, as a table."""

import math

from cli.show import print_table
from schemas.config import RunConfig
from schemas.estimates import ROW_MEMORY, batch_shortage, cells, estimate, readable_size, storage_need
from schemas.plan import plan


def print_costs(config: RunConfig, *, images: int, gpus: int, seconds_per_image: float | None, cores: int) -> None:
    """Times and sizes per kind of stage, and what each machine needs; docs/scaling.md has the formulae."""
    shortage = batch_shortage(images, config.optimization.batch_size)
    if shortage is not None:
        print(f"\n{shortage}")
        return
    costs = estimate(config, images=images, gpus=gpus, seconds_per_image=seconds_per_image, cores=cores)
    speed = f"{seconds_per_image:g} s a photograph, " if seconds_per_image is not None else ""
    print(
        f"\n{images:,} photographs, {gpus} GPU{'s' if gpus > 1 else ''}, {speed}"
        f"{cores} cores (an estimate; docs/scaling.md has the formulae)"
    )
    rows: list[tuple[str, ...]] = [
        (c.stage, str(c.count), f"{c.photographs:,}", span(c.seconds), readable_size(c.bytes) if c.bytes else "")
        for c in costs
    ]
    seconds, total = sum(c.seconds for c in costs), sum(c.bytes for c in costs)
    rows.append(("in all", "", "", span(seconds), readable_size(total)))
    print_table(("stage", "times", "photographs read", "time", "storage"), rows)
    most = storage_need(config, images=images, steps=plan(config))
    print(f"storage while it runs, at most: {readable_size(most)}")
    if cells(config):
        print(f"cache of masks on each training machine: {readable_size(images * cells(config))}")
    print(f"memory for the images table, a process: {readable_size(images * ROW_MEMORY)}")


def span(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `3.5 h` or `9.1 days`; `?` for what is not known."""
    if math.isnan(seconds):
        return "?"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:,.1f} days" if seconds < 1e7 else f"{seconds / 86400:,.0f} days"

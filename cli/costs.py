"""What a run will cost, as a table."""

from cli.show import print_table
from schemas.config import RunConfig
from schemas.estimates import ROW_MEMORY, cells, estimate


def print_costs(config: RunConfig, *, images: int, gpus: int, seconds_per_image: float, cores: int) -> None:
    """Times and sizes per kind of stage, and what each machine needs; docs/scaling.md has the formulae."""
    costs = estimate(config, images=images, gpus=gpus, seconds_per_image=seconds_per_image, cores=cores)
    print(
        f"\n{images:,} photographs, {gpus} GPU{'s' if gpus > 1 else ''}, {seconds_per_image:g} s a photograph, "
        f"{cores} cores (an estimate; docs/scaling.md has the formulae)"
    )
    rows: list[tuple[str, ...]] = [
        (c.stage, str(c.count), f"{c.photographs:,}", span(c.seconds), size(c.bytes) if c.bytes else "") for c in costs
    ]
    seconds, total = sum(c.seconds for c in costs), sum(c.bytes for c in costs)
    rows.append(("in all", "", "", span(seconds), size(total)))
    print_table(("stage", "times", "photographs read", "time", "storage"), rows)
    print(f"cache of masks on each training machine: {size(images * cells(config))}")
    print(f"memory for the images table, a process: {size(images * ROW_MEMORY)}")


def span(seconds: float) -> str:
    """Such as `40 s`, `12 min`, `3.5 h` or `9.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:,.1f} days" if seconds < 1e7 else f"{seconds / 86400:,.0f} days"


def size(count: float) -> str:
    """Such as `640 kB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError

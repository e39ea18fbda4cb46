"""`cyborgs fork` and `cyborgs gc`: runs beside runs, and what may go."""

from cli.show import print_table
from flows.fork import fork
from schemas.estimates import readable_size
from storage.garbage import find_garbage, remove
from storage.run import open_run


def fork_run(url: str, new: str, *, assignments: list[str]) -> None:
    """Make the fork, and say of each step what becomes of it.

    Raises:
        CyborgsError: bad settings, or `new` is another run.
    """
    verdicts = fork(url, new, assignments)
    print_table(("stage", "", "why"), [(each.name, "stays" if each.stays else "anew", each.why) for each in verdicts])
    print(f"next: cyborgs run --run {new}")


def collect_garbage(url: str, *, dry_run: bool) -> None:
    """Remove what no setting leads to, or only list it.

    Raises:
        RunError: there is no run.
    """
    run = open_run(url)
    garbage = find_garbage(run)
    if not garbage:
        print(f"{run.store.url}: nothing to remove")
        return
    print_table(
        ("place", "files", "size", "why"),
        [(entry.place, str(len(entry.paths)), readable_size(entry.bytes), entry.why) for entry in garbage],
    )
    if not dry_run:
        remove(run, garbage)
    total = readable_size(sum(entry.bytes for entry in garbage))
    print(f"{run.store.url}: {total} would go (--dry-run)" if dry_run else f"{run.store.url}: {total} removed")

"""Whether a run fits where it is kept, asked before hours of work."""

from schemas.artifacts import RunRecord
from schemas.errors import RunError
from schemas.estimates import readable_size, storage_need
from schemas.plan import plan
from storage.artifacts import Standings
from storage.retention import needed_again
from storage.run import Run
from storage.store import Store


def check_space(store: Store, record: RunRecord) -> None:
    """Whether a new run fits.

    Raises:
        RunError: it needs more than is free there.
    """
    _check(store, storage_need(record.config, images=record.photographs, steps=plan(record.config)))


def check_space_left(run: Run) -> None:
    """Whether what is still to be done fits; what a stopped stage has written already is there.

    Raises:
        RunError: it needs more than is free there.
    """
    standings = Standings(run).all()
    again = needed_again(standings)
    left = [found for found in standings if found.state != "done" or found in again]
    need = storage_need(run.config, images=run.record.photographs, steps=[found.step for found in left])
    partial = [found.folder for found in left if found.state == "partial" and found.folder is not None]
    written = sum(run.store.size(path) or 0 for folder in partial for path in run.store.list(folder))
    _check(run.store, need - written)


def _check(store: Store, need: int) -> None:
    free = store.free_bytes()
    if free is not None and need > free:
        raise RunError(
            f"run {store.url}: what is to be done needs about {readable_size(need)} there, and {readable_size(free)} "
            "are free: free some, choose another place, or --set placement.keep_checkpoints=last:1"
        )

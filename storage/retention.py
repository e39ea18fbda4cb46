"""Which checkpoints stay when no stage needs them any more (placement.keep_checkpoints).

The manifest of a thinned artifact stays, with a note beside it of the files that are gone: what was made from it is
still what it was. Where a stage needs such a file again, the artifact is taken back and made anew, equal as it was.
"""

import json
from collections.abc import Sequence

from schemas.plan import Step, checkpoints_kept
from storage import layout
from storage.artifacts import Standing, Standings
from storage.run import Run


def thin_out(run: Run) -> list[str]:
    """Let go of checkpoints that the policy does not keep and every stage that reads them is done with.

    Returns:
        Names of the steps whose checkpoint went.
    """
    standings = Standings(run).all()
    stay = checkpoints_kept(run.config)
    gone = []
    for found in standings:
        if found.step.stage not in ("warm-up", "train") or found.step.name in stay:
            continue
        if found.manifest is None or found.thinned or _readers_left(found.step, standings):
            continue
        # The note first: a file that is missing without one would count as damage.
        run.store.write(f"{found.folder}/{layout.THINNED}", json.dumps(layout.CHECKPOINT_FILES).encode())
        for name in layout.CHECKPOINT_FILES:
            run.store.delete(f"{found.folder}/{name}")
        gone.append(found.step.name)
    return gone


def restore_needed(run: Run) -> list[str]:
    """Take back thinned artifacts that a stage still to come reads, so that the run makes them anew first.

    Returns:
        Names of the steps that are pending now.
    """
    again = needed_again(Standings(run).all())
    for found in again:
        run.store.delete(f"{found.folder}/{layout.MANIFEST}")
        run.store.delete(f"{found.folder}/{layout.THINNED}")
    return [found.step.name for found in again]


def needed_again(standings: list[Standing]) -> list[Standing]:
    """Thinned artifacts that a step still to come reads, in the plan's order."""
    again: list[Standing] = []
    for found in reversed(standings):  # what is made anew needs its own inputs again
        if found.thinned and _readers_left(found.step, standings, [each.step.name for each in again]):
            again.append(found)
    return again[::-1]


def _readers_left(step: Step, standings: list[Standing], again: Sequence[str] = ()) -> bool:
    return any(
        found.state != "done" or found.step.name in again
        for found in standings
        if step.name in dict(found.step.inputs).values()
    )

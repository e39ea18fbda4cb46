"""`cyborgs fork`: a run beside another, with some settings changed and every artifact that they leave valid."""

import os
from collections.abc import Callable
from pathlib import PurePosixPath

from flows.copying import copy_artifact
from flows.prepare import with_config
from flows.space import check_space, check_space_left
from flows.watch import print_line
from schemas.artifacts import RunRecord
from schemas.errors import RunError
from schemas.loading import change_config
from schemas.plan import Step, plan
from storage import layout
from storage.artifacts import Standings
from storage.local import LocalStore
from storage.manifests import read_manifest
from storage.provenance import provenance
from storage.reuse import Verdict, compare
from storage.run import Run, create_run, defines_result, difference, find_run, open_run
from storage.store import Store, open_store


def fork(url: str, new: str, assignments: list[str]) -> list[Verdict]:
    """Create the run `new` from the run at `url`, and copy what is valid there; the same call goes on after a stop.

    Args:
        assignments: settings to change, `a.b=c`.

    Returns:
        What became of each step, and why.

    Raises:
        CyborgsError: what is wrong; an artifact that is damaged is not copied.
    """
    source = open_run(url)
    record = with_config(source.record, change_config(source.config, assignments), name=source.record.name)
    origin = f"{source.store.url} ({source.record.config_digest})"
    record = record.model_copy(update={"history": (), "created": provenance(), "forked_from": origin})
    target = _open_or_create(source, new, record)
    for step in plan(target.config):
        found = Standings(target).of(step)  # anew each time: the content of one copy leads to the key of the next
        if found.key is None or found.folder is None or found.state == "done":
            continue
        manifest = read_manifest(source, found.folder, found.key).manifest
        if manifest is None:
            continue
        # A `cyborgs run` of the fork may be at work on this very artifact, and commit it while the copy waits.
        with target.store.lease(f"{found.folder}/{layout.LEASE}", waiting=_tell_waiting(step)):
            if Standings(target).of(step).state != "done":
                copy_artifact(source, target, found.folder, manifest)
    return compare(source, target)


def _open_or_create(source: Run, new: str, record: RunRecord) -> Run:
    """The fork, as far as an earlier call came, or a new one if what it leads to fits."""
    store = open_store(new)
    _check_place(source, store, new)
    known = find_run(new)
    if known is None:
        check_space(store, record)
        return create_run(new, record)
    changes = difference(known.config, record.config)
    defining = [f"{name} {before!r} -> {after!r}" for name, (before, after) in changes.items() if defines_result(name)]
    if defining:
        raise RunError(
            f"fork {source.store.url}: there is a run at {new} already, with other settings: {', '.join(defining)}; "
            "name another place for the fork"
        )
    check_space_left(known)
    return known


def _check_place(source: Run, store: Store, new: str) -> None:
    """A run inside of another would be taken for a part of it.

    Raises:
        RunError: the fork would be the run itself, inside of it, or around it.
    """
    here, there = _place(source.store), _place(store)
    if here == there:
        raise RunError(
            f"fork {source.store.url}: {new} is the run itself; name another place, or use `cyborgs run --update`"
        )
    if here in there.parents or there in here.parents:
        how = "lies inside of the run" if here in there.parents else "has the run inside of it"
        raise RunError(f"fork {source.store.url}: {new} {how}; name a place beside it")


def _place(store: Store) -> PurePosixPath:
    """Where a store is, whichever way it was named."""
    return PurePosixPath(os.path.realpath(store.root) if isinstance(store, LocalStore) else store.url)


def _tell_waiting(step: Step) -> Callable[[str], None]:
    return lambda holder: print_line(f"{step.name}: waiting for {holder}")

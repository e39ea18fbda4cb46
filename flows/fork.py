"""`cyborgs fork`: a run beside another, with some settings changed and every artifact that they leave valid."""

import os

from flows.prepare import with_config
from flows.space import check_space, check_space_left
from schemas.artifacts import Manifest, RunRecord
from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError, RunError
from schemas.loading import change_config
from schemas.plan import plan
from storage import layout
from storage.artifacts import Standings, read_manifest
from storage.local import LocalStore
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
        if manifest is not None:
            _copy(source, target, found.folder, manifest)
    return compare(source, target)


def _open_or_create(source: Run, new: str, record: RunRecord) -> Run:
    """The fork, as far as an earlier call came, or a new one if what it leads to fits."""
    store = open_store(new)
    if _place(store) == _place(source.store):
        raise RunError(
            f"fork {source.store.url}: {new} is the run itself; name another place, or use `cyborgs run --update`"
        )
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


def _place(store: Store) -> str:
    """Where a store is, whichever way it was named."""
    return os.path.realpath(store.root) if isinstance(store, LocalStore) else store.url


def _copy(source: Run, target: Run, folder: str, manifest: Manifest) -> None:
    """An artifact's files, each held against its digest, then its manifest."""
    for entry in manifest.files:
        path = f"{folder}/{entry.path}"
        try:
            data = source.store.read(path)
        except FileNotFoundError:
            continue  # let go by placement.keep_checkpoints; the note of it is copied too
        if digest_bytes(data) != entry.digest:
            raise DamagedArtifactError(f"{source.store.url}/{path} is damaged: `cyborgs verify {source.store.url}`")
        target.store.write(path, data)
    note = f"{folder}/{layout.THINNED}"
    if source.store.size(note) is not None:
        target.store.write(note, source.store.read(note))
    target.store.publish(folder)
    target.store.create(f"{folder}/{layout.MANIFEST}", manifest.model_dump_json(indent=1).encode())

"""`cyborgs fork`: a run beside another, with some settings changed and every artifact that they leave valid."""

from flows.prepare import with_config
from schemas.artifacts import Manifest
from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError, RunError
from schemas.loading import change_config
from schemas.plan import plan
from storage import layout
from storage.artifacts import Standings, read_manifest
from storage.provenance import provenance
from storage.reuse import Verdict, compare
from storage.run import Run, create_run, open_run


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
    target = create_run(new, record.model_copy(update={"history": (), "created": provenance(), "forked_from": origin}))
    if target.store.url == source.store.url:
        raise RunError(f"fork {url}: {new} is the run itself; name another place, or use `cyborgs run --update`")
    for step in plan(target.config):
        found = Standings(target).of(step)  # anew each time: the content of one copy leads to the key of the next
        if found.key is None or found.folder is None or found.state == "done":
            continue
        manifest = read_manifest(source, found.folder, found.key).manifest
        if manifest is not None:
            _copy(source, target, found.folder, manifest)
    return compare(source, target)


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

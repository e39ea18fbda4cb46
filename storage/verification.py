"""Every committed file of a run held against its manifest: what is damaged, and where."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError
from schemas.plan import step_name
from storage import layout
from storage.manifests import decode_manifest, let_go
from storage.masks import read_rows
from storage.page import unmark
from storage.run import Run, check_placement, mend_record, read_copy, record_copies


@dataclass(frozen=True)
class Finding:
    """What was found of one artifact."""

    name: str
    """Such as `train cycle 1`."""
    folder: str
    """Below the run."""
    files: int
    bytes: int
    damage: tuple[str, ...]
    """One line for each fault; none when it is whole."""
    harmless: tuple[str, ...] = ()
    """Faults in what is only told: they cost nobody the artifact."""


def verify_run(run: Run) -> Iterator[Finding]:
    """Read all that is committed, of earlier settings too. The manifest of a damaged artifact is taken back, so that
    its step is pending and the next `cyborgs run` makes it again; a damaged report is removed and drawn again.

    Raises:
        RunError: another version wrote a manifest, in a format that this one does not know.
    """
    yield from _verify_record(run)
    if run.store.size(layout.REPORT) is not None and unmark(run.store.read(layout.REPORT)) is None:
        run.store.delete(layout.REPORT)
        yield Finding("report", layout.REPORT, 1, 0, (), ("its content has changed; it will be drawn again",))
    suffix = f"/{layout.MANIFEST}"
    for path in run.store.list(""):
        if path.endswith(suffix):
            finding = _verify_artifact(run, path)
            if finding is not None:
                yield finding


def _verify_record(run: Run) -> Iterator[Finding]:
    """run.json and its copies, put right where they are damaged; the copy of an earlier version has served."""
    told = run.restored or check_placement(run)
    if told is not None:
        yield Finding(layout.RUN_RECORD, "", 1, 0, (), (told,))
    today = layout.record_copy(len(run.record.history))
    for path in record_copies(run.store):
        if read_copy(run.store, path) is None:
            run.store.delete(path)
            fate = "it is made again" if path == today else "it is let go"
            yield Finding("history", path, 1, 0, (), (f"its content has changed; {fate}",))
    mend_record(run)


def _verify_artifact(run: Run, path: str) -> Finding | None:
    """None where another command took the artifact back, or made it anew, while it was read."""
    text = _read(run, path)
    if text is None:
        return None
    finding = _verify(run, path.removesuffix(f"/{layout.MANIFEST}"), text)
    if finding.damage:
        if _read(run, path) != text:
            return None
        run.store.delete(path)
    return finding


def _read(run: Run, path: str) -> bytes | None:
    try:
        return run.store.read(path)
    except FileNotFoundError:
        return None


def _verify(run: Run, folder: str, text: bytes) -> Finding:
    try:
        manifest = decode_manifest(text, where=layout.MANIFEST)
    except DamagedArtifactError as error:
        return Finding(folder, folder, 0, 0, (str(error),))
    damage = []
    if manifest.key != folder.rsplit("/", 1)[-1]:
        damage.append(f"{layout.MANIFEST}: belongs to another artifact ({manifest.key})")
    for entry in manifest.files:
        data = _read(run, f"{folder}/{entry.path}")
        if data is None:
            # Asked now: a run at work may have let it go while the files before it were read.
            if entry.path not in let_go(run, folder):
                damage.append(f"{entry.path}: missing")
            continue
        if len(data) != entry.bytes:
            damage.append(f"{entry.path}: {len(data)} bytes, expected {entry.bytes}")
        elif digest_bytes(data) != entry.digest:
            damage.append(f"{entry.path}: its content has changed")
    if damage and any(entry.path.startswith(f"{layout.MASKS}/") for entry in manifest.files):
        damage += _damaged_rows(run, folder)
    name = step_name(manifest.stage, manifest.cycle)
    harmless = () if manifest.is_whole else (f"{layout.MANIFEST}: its provenance is not what was written",)
    size = sum(entry.bytes for entry in manifest.files)
    return Finding(name, folder, len(manifest.files), size, tuple(damage), harmless)


def _damaged_rows(run: Run, folder: str) -> list[str]:
    """Which photographs' masks a damaged file of the store has cost, as far as the first of them."""
    try:
        for _ in read_rows(run.store.fetch(f"{folder}/{layout.MASKS}")):
            pass
    except (DamagedArtifactError, FileNotFoundError) as error:
        return [str(error)]
    return []

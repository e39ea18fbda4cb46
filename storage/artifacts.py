"""Artifacts of a run: where each step stands, reading one, committing one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from schemas.artifacts import FileEntry, Manifest, Provenance
from schemas.digests import digest_json, seal
from schemas.errors import DamagedArtifactError, RunError
from schemas.plan import Step, artifact_key, find_step, ingredients, plan
from schemas.stages import StageName
from storage import layout
from storage.manifests import read_manifest
from storage.run import Run

State = Literal["done", "partial", "pending"]


@dataclass(frozen=True)
class Standing:
    """Where a step stands: done, partial (there is work to resume), or pending."""

    step: Step
    state: State
    key: str | None
    """None while an input is missing, for then the key is not known yet."""
    folder: str | None
    manifest: Manifest | None
    problem: str | None = None
    """Why a manifest that is there does not count."""
    thinned: bool = False
    """Whether its checkpoint was let go by placement.keep_checkpoints."""


@dataclass
class Standings:
    """Follows the plan from the start; each step's key needs the content of the steps before it."""

    run: Run
    _known: dict[str, Standing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._steps = {step.name: step for step in plan(self.run.config)}

    def all(self) -> list[Standing]:
        """Every step of the plan, in order."""
        return [self.of(step) for step in self._steps.values()]

    def of(self, step: Step) -> Standing:
        """One step, looking at those before it first: the plan's order has inputs before what reads them."""
        for each in self._steps.values():
            if step.name in self._known:
                break
            if each.name not in self._known:
                self._known[each.name] = self._look(each)
        return self._known[step.name]

    def input(self, name: str) -> Standing:
        """The step of that name."""
        return self.of(self._steps[name])

    def _look(self, step: Step) -> Standing:
        contents = {}
        for role, name in step.inputs:
            before = self._known[name]
            if before.manifest is None:
                return Standing(step, "pending", None, None, None)
            contents[role] = before.manifest.content
        parts = ingredients(self.run.config, step, inputs=contents, pins=self.run.record.pins)
        key = artifact_key(parts)
        folder = layout.artifact_folder(step, key)
        read = read_manifest(self.run, folder, key)
        state: State = "pending"
        if read.manifest is not None:
            state = "done"
        elif self.run.store.list(f"{folder}/{layout.PARTIAL}"):
            state = "partial"
        return Standing(step, state, key, folder, *read)


def standing(run: Run, stage: StageName, cycle: int | None = None) -> Standing:
    """Where one step of a run stands."""
    return Standings(run).of(find_step(run.config, stage, cycle))


@dataclass(frozen=True)
class Artifact:
    """A committed artifact whose files were found to be what its manifest says."""

    run: Run
    folder: str
    manifest: Manifest

    def path(self, name: str) -> Path:
        """A file or folder of it, local, for reading."""
        return self.run.store.fetch(f"{self.folder}/{name}")


def load_artifact(run: Run, found: Standing) -> Artifact:
    """Open a done step's artifact, digests checked.

    Raises:
        RunError: the step is not done.
        DamagedArtifactError: a file is not what the manifest says. The manifest is taken back, so that the
            next `cyborgs run` makes the artifact again.
    """
    artifact, damaged = _read_artifact(run, found)
    if damaged is None:
        return artifact
    now = read_manifest(run, artifact.folder, artifact.manifest.key)
    if now.thinned or now.manifest not in (None, artifact.manifest):
        raise RunError(
            f"{found.step.name} of {run.store.url} was changed by another command while it was read: "
            "give the same command again"
        )
    # The manifest alone: what else stands there is made again over it, or is somebody's work just now.
    run.store.delete(f"{artifact.folder}/{layout.MANIFEST}")
    rows = _rows(run, artifact.folder, damaged)
    raise DamagedArtifactError(
        f"{run.store.url}/{artifact.folder}/{damaged.path} is damaged; {found.step.name} is pending now{rows}: "
        "give the same command again to repair it"
    )


def view_artifact(run: Run, found: Standing) -> Artifact:
    """As `load_artifact`, for those who only look: the run stays as it is.

    Raises:
        RunError: the step is not done.
        DamagedArtifactError: a file is not what the manifest says.
    """
    artifact, damaged = _read_artifact(run, found)
    if damaged is not None:
        raise DamagedArtifactError(
            f"{damaged.path} is damaged: `cyborgs verify {run.store.url}`, then `cyborgs run` makes it anew"
        )
    return artifact


def _read_artifact(run: Run, found: Standing) -> tuple[Artifact, FileEntry | None]:
    """A done step's artifact, and the first of its files that is not what the manifest says."""
    if found.manifest is None or found.folder is None:
        raise RunError(f"{found.step.name} of {run.store.url} is not done: `cyborgs run` makes it first")
    if found.thinned:
        raise RunError(
            f"{found.step.name} of {run.store.url}: its checkpoint was let go (placement.keep_checkpoints): "
            "`cyborgs run` makes it anew first"
        )
    stands = run.store.digests(found.folder)
    damaged = (
        entry
        for entry in found.manifest.files
        if stands.get(f"{found.folder}/{entry.path}") != (entry.bytes, entry.digest)
    )
    return Artifact(run, found.folder, found.manifest), next(damaged, None)


def _rows(run: Run, folder: str, entry: FileEntry) -> str:
    """Which photographs' masks a damaged file has cost, in brackets; empty for files of other artifacts."""
    if not entry.path.startswith(f"{layout.MASKS}/"):
        return ""
    from storage.masks import rows_damaged_in  # zarr takes long to import, and is needed here alone

    try:
        rows = rows_damaged_in(run.store.fetch(f"{folder}/{layout.MASKS}"), entry.path.removeprefix(f"{layout.MASKS}/"))
    except FileNotFoundError:
        return ""
    return f" ({rows} of {layout.MASKS})" if rows else ""


def fingerprint(standings: list[Standing]) -> str:
    """Digest of which artifacts are done; a report carries the one it was made from."""
    return digest_json([found.key for found in standings if found.state == "done"])


def tidy(run: Run) -> None:
    """What a kill right after a commit leaves undone: point people at today's masks, drop superfluous partial work,
    leases and heartbeats of the dead, and files that were never put in place.
    """
    run.store.sweep("")
    for found in Standings(run).all():
        if found.state != "done" or found.folder is None or run.store.holder(f"{found.folder}/{layout.LEASE}"):
            continue
        run.store.delete(f"{found.folder}/{layout.PARTIAL}")
        run.store.delete(f"{found.folder}/{layout.LEASE}")
        run.store.delete(layout.heartbeat(found.step))
        if found.step.stage == "bootstrap-masks" and found.step.cycle is not None:
            run.store.point(layout.masks_pointer(found.step.cycle), f"{found.folder}/{layout.MASKS}")


def retract(run: Run, found: Standing, *, keep: Mapping[str, bytes] = MappingProxyType({})) -> None:
    """Take an artifact back: the manifest first, so that nobody takes what is left for whole.

    Args:
        keep: partial work, by name, that its next attempt goes on from.
    """
    if found.folder is None:
        return
    kept = {f"{found.folder}/{layout.PARTIAL}/{name}": seal(data) for name, data in keep.items()}
    for path, data in kept.items():
        run.store.write(path, data)
    run.store.delete(f"{found.folder}/{layout.MANIFEST}")
    for path in run.store.list(found.folder):
        if not path.endswith(f"/{layout.LEASE}") and path not in kept:
            run.store.delete(path)


def commit_artifact(
    run: Run,
    step: Step,
    *,
    key: str,
    parts: dict[str, object],
    content: str,
    summary: dict[str, float | int | str],
    made_by: Provenance,
    written: Mapping[str, str] = MappingProxyType({}),
) -> Manifest:
    """Make the files of an artifact durable, then write its manifest, create-only; partial work goes last.

    Args:
        written: digests of files as the stage wrote them.

    Returns:
        The manifest that stands: another writer's, if one came first.

    Raises:
        DamagedArtifactError: a file is no longer what the stage wrote.
    """
    folder = layout.artifact_folder(step, key)
    run.store.publish(folder)
    entries = []
    for path, (size, digest) in run.store.digests(folder).items():
        name = path.removeprefix(f"{folder}/")
        if name not in (layout.MANIFEST, layout.LEASE, layout.THINNED) and not name.startswith(f"{layout.PARTIAL}/"):
            entries.append(FileEntry(path=name, bytes=size, digest=digest))
    found = {entry.path: entry.digest for entry in entries}
    for name, digest in written.items():
        if found.get(name) != digest:
            raise DamagedArtifactError(
                f"{run.store.url}/{folder}/{name} changed after it was written: give the same command again"
            )
    manifest = Manifest.seal(
        stage=step.stage,
        cycle=step.cycle,
        key=key,
        ingredients=parts,
        content=content,
        summary=summary,
        files=tuple(entries),
        provenance=made_by,
    )
    path = f"{folder}/{layout.MANIFEST}"
    text = manifest.model_dump_json(indent=1).encode()
    if not run.store.create(path, text):
        first = read_manifest(run, folder, key).manifest
        if first is None:
            # What stands there is damaged: it is no artifact, so nothing is lost by replacing it.
            run.store.write(path, text)
        else:
            manifest = first
    run.store.delete(f"{folder}/{layout.PARTIAL}")
    run.store.delete(f"{folder}/{layout.THINNED}")
    return manifest

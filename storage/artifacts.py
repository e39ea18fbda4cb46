"""Artifacts of a run: where each step stands, reading one, committing one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.artifacts import FileEntry, Manifest, Provenance
from schemas.digests import digest_json
from schemas.errors import DamagedArtifactError, RunError
from schemas.plan import Step, artifact_key, find_step, ingredients, plan
from schemas.stages import StageName
from storage import layout
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
        manifest, problem = _read_manifest(self.run, folder, key)
        state: State = "pending"
        if manifest is not None:
            state = "done"
        elif self.run.store.list(f"{folder}/{layout.PARTIAL}"):
            state = "partial"
        return Standing(step, state, key, folder, manifest, problem)


def _read_manifest(run: Run, folder: str, key: str) -> tuple[Manifest | None, str | None]:
    path = f"{folder}/{layout.MANIFEST}"
    try:
        manifest = Manifest.model_validate_json(run.store.read(path))
    except FileNotFoundError:
        return None, None
    except ValidationError as error:
        return None, f"{path} is damaged: {error.errors()[0]['msg']}"
    if manifest.key != key:
        return None, f"{path} belongs to another artifact ({manifest.key})"
    sizes = run.store.sizes(folder)
    for entry in manifest.files:
        if sizes.get(f"{folder}/{entry.path}") != entry.bytes:
            return None, f"{folder}/{entry.path} is missing or cut short"
    return manifest, None


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
    if found.manifest is None or found.folder is None:
        raise RunError(f"{found.step.name} of {run.store.url} is not done: `cyborgs run` makes it first")
    stands = run.store.digests(found.folder)
    for entry in found.manifest.files:
        path = f"{found.folder}/{entry.path}"
        if stands.get(path) != (entry.bytes, entry.digest):
            # The manifest alone: what else stands there is made again over it, or is somebody's work just now.
            run.store.delete(f"{found.folder}/{layout.MANIFEST}")
            raise DamagedArtifactError(
                f"{run.store.url}/{path} is damaged; {found.step.name} is pending now: "
                "give the same command again to repair it"
            )
    return Artifact(run, found.folder, found.manifest)


def fingerprint(standings: list[Standing]) -> str:
    """Digest of which artifacts are done; a report carries the one it was made from."""
    return digest_json([found.key for found in standings if found.state == "done"])


def tidy(run: Run) -> None:
    """What a kill right after a commit leaves undone: point people at today's masks, drop superfluous partial work."""
    for found in Standings(run).all():
        if found.state != "done":
            continue
        run.store.delete(f"{found.folder}/{layout.PARTIAL}")
        if found.step.stage == "bootstrap-masks" and found.step.cycle is not None:
            run.store.point(layout.masks_pointer(found.step.cycle), f"{found.folder}/{layout.MASKS}")


def retract(run: Run, found: Standing) -> None:
    """Take an artifact back: the manifest first, so that nobody takes what is left for whole."""
    if found.folder is not None:
        run.store.delete(f"{found.folder}/{layout.MANIFEST}")
        for path in run.store.list(found.folder):
            if not path.endswith(f"/{layout.LEASE}"):
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
) -> Manifest:
    """Make the files of an artifact durable, then write its manifest, create-only; partial work goes last.

    Returns:
        The manifest that stands: another writer's, if one came first.
    """
    folder = layout.artifact_folder(step, key)
    run.store.publish(folder)
    entries = []
    for path, (size, digest) in run.store.digests(folder).items():
        name = path.removeprefix(f"{folder}/")
        if name not in (layout.MANIFEST, layout.LEASE) and not name.startswith(f"{layout.PARTIAL}/"):
            entries.append(FileEntry(path=name, bytes=size, digest=digest))
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
        first, _ = _read_manifest(run, folder, key)
        if first is None:
            # What stands there is damaged: it is no artifact, so nothing is lost by replacing it.
            run.store.write(path, text)
        else:
            manifest = first
    run.store.delete(f"{folder}/{layout.PARTIAL}")
    return manifest

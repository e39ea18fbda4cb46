"""What a run records on storage: run.json and the manifest beside every artifact."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.config import RunConfig
from schemas.digests import digest_json
from schemas.errors import RunError
from schemas.plan import FORMAT_VERSION
from schemas.stages import StageName


class Record(BaseModel):
    """Something written once and read by later versions: unknown keys are an error, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Provenance(Record):
    """Who made it, where and when. Never digested: two machines may make the same artifact."""

    created: str
    """UTC, ISO 8601."""
    seconds: float = 0.0
    """How long the last attempt took."""
    code: str
    packages: dict[str, str]
    python: str
    host: str
    container: str | None = None
    user: str
    device: str = "cpu"
    warnings: tuple[str, ...] = ()


class FileEntry(Record):
    """One file of an artifact."""

    path: str
    """Below the artifact's folder."""
    bytes: int
    digest: str


class Manifest(Record):
    """Written last: no manifest, no artifact."""

    format: Literal[1] = FORMAT_VERSION
    stage: StageName
    cycle: int | None
    key: str
    ingredients: dict[str, Any]
    content: str
    """Content digest: over decoded labels, table rows or tensors, never over file bytes or times."""
    summary: dict[str, float | int | str]
    """A few figures for `cyborgs status`."""
    files: tuple[FileEntry, ...]
    digest: str
    """Of all the above."""
    provenance: Provenance
    whole: str | None = None
    """Digest of all of it, provenance too, which costs nobody an artifact; the first versions wrote none."""

    @classmethod
    def seal(cls, **fields: Any) -> Self:
        """A manifest with its own digest filled in."""
        unsealed = cls.model_construct(digest="", **fields)
        digested = cls(digest=unsealed._own_digest(), **fields)
        return digested.model_copy(update={"whole": digested._whole_digest()})

    def _own_digest(self) -> str:
        return digest_json(self.model_dump(mode="json", exclude={"digest", "provenance", "whole"}))

    def _whole_digest(self) -> str:
        return digest_json(self.model_dump(mode="json", exclude={"whole"}))

    @property
    def is_whole(self) -> bool:
        """Whether its provenance, too, is what was written."""
        return self.whole in (None, self._whole_digest())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.digest != self._own_digest():
            raise ValueError("its digest does not match what it says")
        return self


def refuse_other_format(tree: Any, *, where: str) -> None:
    """Look at what was read before it is taken for a record of this version.

    Raises:
        RunError: another version wrote it, in a format that this one does not know.
    """
    found = tree.get("format") if isinstance(tree, dict) else None
    if not isinstance(found, int) or found == FORMAT_VERSION:
        return
    maker = tree.get("provenance") or tree.get("created")
    version = f" by version {maker['code']}" if isinstance(maker, dict) and "code" in maker else ""
    raise RunError(
        f"{where} was written in format {found}{version}; this version reads format {FORMAT_VERSION}: "
        "go on with the version that made the run, or choose another --run"
    )


class Change(Record):
    """One change of a run after its creation."""

    when: str
    who: str
    what: dict[str, tuple[Any, Any]]
    """Dotted setting -> (before, after)."""


class RunRecord(Record):
    """run.json: what the run was told, and what was pinned when it was created."""

    format: Literal[1] = FORMAT_VERSION
    name: str
    """Of the config it was made from."""
    config: RunConfig
    config_digest: str
    """Of everything that defines the result: the config without `placement`."""
    data: tuple[str, ...]
    """Where the photographs are; free to change when they move."""
    pins: dict[str, str]
    """Digests of what came from outside: "photographs" (the list of names and sizes), "start" (weights), "masks"."""
    start: str | None = None
    """File of the start weights, as found when the run was created."""
    masks: tuple[str, ...] = ()
    """Files and folders of masks that a person gave, as found when the run was created."""
    photographs: int
    """Photographs listed at creation."""
    created: Provenance
    forked_from: str | None = None
    """The run that it was forked from, and that run's config digest."""
    history: tuple[Change, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.config_digest != result_digest(self.config):
            raise ValueError("its config_digest does not match its config: was it edited by hand?")
        return self


def result_digest(config: RunConfig) -> str:
    """Digest of all settings that define the result."""
    return digest_json(config.model_dump(mode="json", exclude={"placement"}))

"""run.json: creating a run, opening it, and telling what another config would change."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.artifacts import Change, RunRecord, refuse_other_format, result_digest
from schemas.config import RunConfig
from schemas.digests import digest_json
from schemas.errors import RunError
from schemas.loading import flatten
from storage import layout
from storage.provenance import now, user
from storage.store import Store, open_store

_CHECKS = "checks"
"""Beside what run.json says: digests of it."""


@dataclass(frozen=True)
class Run:
    """A run on storage: its place, and what it was told."""

    store: Store
    record: RunRecord

    @property
    def config(self) -> RunConfig:
        """All settings, with what was pinned at creation."""
        return self.record.config


def open_run(url: str) -> Run:
    """Open a run that exists.

    Raises:
        RunError: there is none, or its run.json is damaged or of another version.
    """
    run = find_run(url)
    if run is None:
        raise RunError(f"run {url}: there is no run here (no {layout.RUN_RECORD})")
    return run


def find_run(url: str) -> Run | None:
    """The run at `url`, None where there is none."""
    store = open_store(url)
    try:
        text = store.read(layout.RUN_RECORD)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Run(store, _decode(url, text))


def create_run(url: str, record: RunRecord) -> Run:
    """Write run.json where none stands; open the other if somebody came first.

    Raises:
        RunError: somebody else created a run with other settings here in the same moment.
    """
    store = open_store(url)
    store.create(layout.RUN_RECORD, _encode(record))
    run = open_run(url)
    if run.record.config_digest != record.config_digest:
        raise RunError(f"run {url}: somebody else has just created it with other settings")
    return run


def replace_record(run: Run, record: RunRecord, *, note: dict[str, tuple[Any, Any]]) -> Run:
    """Change what a run was told, and write down who did and what was before."""
    change = Change(when=now(), who=user(), what=note)
    changed = record.model_copy(update={"history": (*run.record.history, change)})
    run.store.write(layout.RUN_RECORD, _encode(changed))
    return Run(run.store, changed)


def with_pinned_numerics(config: RunConfig, pinned: RunConfig) -> RunConfig:
    """What `config` leaves open in numerics, as it was pinned when the run was created."""
    numerics = config.numerics
    update: dict[str, Any] = {}
    if numerics.threads is None:
        update["threads"] = pinned.numerics.threads
    if numerics.precision == "auto":
        update["precision"] = pinned.numerics.precision
    return config.model_copy(update={"numerics": numerics.model_copy(update=update)})


def difference(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted setting -> (before, after), for settings that differ."""
    old, new = flatten(before), flatten(after)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def defines_result(setting: str) -> bool:
    """Whether a dotted setting enters the digests."""
    return not setting.startswith("placement.")


def config_digest(config: RunConfig) -> str:
    """Digest of the settings that define the result."""
    return result_digest(config)


def check_placement(run: Run) -> str | None:
    """Placement never changes a result, so an edited or damaged one does not keep a run from being opened: a line that
    says so, None where it is as it was written.
    """
    checks = json.loads(run.store.read(layout.RUN_RECORD)).get(_CHECKS)
    if checks is None or checks.get("placement") == _check(run.record.model_dump(mode="json"))["placement"]:
        return None
    return f"{layout.RUN_RECORD}: config.placement is not what was written: damaged, or edited by hand"


def _encode(record: RunRecord) -> bytes:
    tree = record.model_dump(mode="json")
    return (json.dumps(tree | {_CHECKS: _check(tree)}, indent=1) + "\n").encode()


def _decode(url: str, text: bytes) -> RunRecord:
    """run.json, held against its digests where it has them: those of the first versions have none."""
    place = f"run {url}: {layout.RUN_RECORD}"
    try:
        tree = json.loads(text)
        checks = tree.pop(_CHECKS, None) if isinstance(tree, dict) else None
        whole = checks is None or checks["record"] == _check(tree)["record"]
        if whole:
            refuse_other_format(tree, where=place)
            _take_up_digest(tree, where=place)
        record = RunRecord.model_validate(tree)  # names the setting at fault, where it is one
        if not whole:
            raise ValueError("its digest does not match what it says")
        return record
    except RunError:
        raise
    except ValidationError as error:
        detail = error.errors()[0]
        reason = f"{'.'.join(str(part) for part in detail['loc']) or 'it'}: {detail['msg']}"
        raise _damaged(place, reason) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(place, f"it: {error}") from error


def _take_up_digest(tree: dict[str, Any], *, where: str) -> None:
    """Let a record that an earlier version wrote, which had fewer settings, name the digest of all of today's.

    A config that does not have the digest beside it is left for the record to refuse.

    Raises:
        RunError: it was written with settings that this version does not know.
    """
    config = tree["config"]
    written = {name: part for name, part in config.items() if name != "placement"}
    if digest_json(written) != tree["config_digest"]:
        return
    try:
        tree["config_digest"] = result_digest(RunConfig.model_validate(config))
    except ValidationError as error:
        detail = error.errors()[0]
        setting = ".".join(str(part) for part in detail["loc"])
        raise RunError(
            f"{where} was written by version {tree['created']['code']}, with settings that this one reads otherwise "
            f"({setting}: {detail['msg'][0].lower()}{detail['msg'][1:]}): go on with that one, or choose another --run"
        ) from error


def _damaged(place: str, reason: str) -> RunError:
    return RunError(
        f"{place} cannot be read ({reason}); it is damaged, edited by hand, or written by another version: move it "
        "away and give the run's own `cyborgs run` command again, what is done is found again"
    )


def _check(tree: dict[str, Any]) -> dict[str, str]:
    """Digests of what a record says: of all but placement, and of that."""
    config = dict(tree["config"])
    placement = config.pop("placement", None)
    return {"record": digest_json(tree | {"config": config}), "placement": digest_json(placement)}

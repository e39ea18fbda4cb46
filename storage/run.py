"""The record of a run: creating it, opening it, changing it, and telling what another config would change.

run.json is what people read. Every version of it stands in history/ too, numbered by the changes before it and created
only where none stands: of two who change a run at once one wins, and a damaged run.json is restored from there.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

from schemas.artifacts import Change, RunRecord, result_digest
from schemas.config import RunConfig
from schemas.errors import RunError
from schemas.loading import flatten
from storage import layout
from storage.provenance import now, user
from storage.record import DamagedRecordError, decode_record, encode_record, is_placement_whole
from storage.store import Store, open_store


@dataclass(frozen=True)
class Run:
    """A run on storage: its place, and what it was told."""

    store: Store
    record: RunRecord
    restored: str | None = None
    """What is wrong with run.json and where the record comes from instead; None where it comes from run.json."""

    @property
    def config(self) -> RunConfig:
        """All settings, with what was pinned at creation."""
        return self.record.config


def open_run(url: str) -> Run:
    """Open a run that exists.

    Raises:
        RunError: there is none, or its run.json and the copies of it are damaged, or of another version.
    """
    run = find_run(url)
    if run is None:
        raise RunError(f"run {url}: there is no run here (no {layout.RUN_RECORD})")
    return run


def find_run(url: str) -> Run | None:
    """The run at `url`, None where there is none. Writes nothing: `mend_record` puts a damaged run.json right.

    Raises:
        RunError: as for `open_run`.
    """
    store = open_store(url)
    place = f"run {url}: {layout.RUN_RECORD}"
    record, problem, lost = None, "is missing", None
    try:
        record = decode_record(store.read(layout.RUN_RECORD), where=place)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except DamagedRecordError as error:
        problem, lost = f"cannot be read ({error}); it is damaged or edited by hand", error
    newest = _newest_copy(store, beyond=len(record.history) if record is not None else -1)
    if newest is not None:
        if record is not None:
            problem = "is older than the last change, which was cut off"
        path, copied = newest
        last = record_copies(store)[-1]
        lost_too = f", since {last} is damaged too: what was changed after that is lost" if last != path else ""
        return Run(store, copied, f"{layout.RUN_RECORD} {problem}: restored from {path}{lost_too}")
    if lost is not None:
        raise RunError(
            f"{place} cannot be read ({lost}); it is damaged, edited by hand, or written by another version, and "
            f"{layout.RECORD_COPIES}/ has no whole copy: move both away and give the run's own `cyborgs run` command "
            "again, what is done is found again"
        ) from lost
    return Run(store, record) if record is not None else None


def create_run(url: str, record: RunRecord) -> Run:
    """Write run.json where none stands; open the other if somebody came first.

    Raises:
        RunError: somebody else created a run with other settings or photographs here in the same moment, or it cannot
            be written; then none is left behind.
    """
    store = open_store(url)
    made = store.create(layout.RUN_RECORD, encode_record(record))
    run = open_run(url)
    _check_same(run, record)
    try:
        mend_record(run)
    except OSError:
        if made:
            with contextlib.suppress(OSError):  # what went wrong first is what counts
                store.delete(layout.RUN_RECORD)
        raise
    return run


def _check_same(run: Run, record: RunRecord) -> None:
    there = run.record
    same = {
        "settings": there.config_digest == record.config_digest,
        "photographs": (there.data, there.pins.get("photographs")) == (record.data, record.pins.get("photographs")),
        "start weights": there.pins.get("start") == record.pins.get("start"),
    }
    other = " and ".join(what for what, is_same in same.items() if not is_same)
    if other:
        raise RunError(
            f"run {run.store.url}: somebody else has just created it with other {other}: choose another place"
        )


def mend_record(run: Run) -> None:
    """Put run.json right where the record was restored, and give it a copy where it has none."""
    if run.restored is not None:
        run.store.write(layout.RUN_RECORD, encode_record(run.record))
    copy = layout.record_copy(len(run.record.history))
    for path in record_copies(run.store):
        if path > copy and read_copy(run.store, path) is None:
            run.store.delete(path)  # it would stand in the way of the next change
    if run.store.size(copy) is None:
        run.store.create(copy, encode_record(run.record))


def replace_record(run: Run, record: RunRecord, *, note: dict[str, tuple[Any, Any]]) -> Run:
    """Change what a run was told, and write down who did and what was before.

    Raises:
        RunError: somebody else has changed it since `run` was opened.
    """
    change = Change(when=now(), who=user(), what=note)
    changed = record.model_copy(update={"history": (*run.record.history, change)})
    text = encode_record(changed)
    if open_run(run.store.url).record != run.record or not run.store.create(
        layout.record_copy(len(changed.history)), text
    ):
        _refuse_second(open_run(run.store.url))
    run.store.write(layout.RUN_RECORD, text)
    return Run(run.store, changed)


def _refuse_second(run: Run) -> None:
    history = run.record.history
    first = f"{history[-1].who}, {history[-1].when}: {', '.join(history[-1].what)}" if history else "made anew"
    raise RunError(
        f"run {run.store.url}: somebody else has just changed it ({first}), and nothing of this change was made: "
        "give the same command again"
    )


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
    if run.restored is not None or is_placement_whole(run.store.read(layout.RUN_RECORD)):
        return None
    copy = read_copy(run.store, layout.record_copy(len(run.record.history)))
    changes = difference(copy.config, run.config) if copy is not None else {}
    shown = ", ".join(f"{setting} {before!r} -> {after!r}" for setting, (before, after) in changes.items())
    return (
        f"{layout.RUN_RECORD}: config.placement is not what was written{f' ({shown})' if shown else ''}: damaged, or "
        "edited by hand; it is taken as it stands, and `cyborgs run --set placement.…` puts it right"
    )


def record_copies(store: Store) -> list[str]:
    """The copies of run.json, the oldest first."""
    return [path for path in store.list(layout.RECORD_COPIES) if layout.number_of_copy(path) is not None]


def read_copy(store: Store, path: str) -> RunRecord | None:
    """A copy of run.json, None where it is gone or damaged."""
    try:
        text = store.read(path)
        record = decode_record(text, where=f"run {store.url}: {path}")
    except (FileNotFoundError, DamagedRecordError):
        return None
    whole = len(record.history) == layout.number_of_copy(path) and is_placement_whole(text)
    return record if whole else None


def _newest_copy(store: Store, *, beyond: int) -> tuple[str, RunRecord] | None:
    """The newest whole copy after more changes than that, and its path."""
    for path in reversed(record_copies(store)):
        if (layout.number_of_copy(path) or 0) <= beyond:
            break
        record = read_copy(store, path)
        if record is not None:
            return path, record
    return None

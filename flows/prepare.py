"""Before a flow starts: check what was asked for, then create the run or open the one that is there.

Nothing is written before everything that can be checked cheaply was found in order.
"""

import os
import sys
from pathlib import Path
from typing import Any

from flows.numerics import pin_numerics
from flows.space import check_space, check_space_left
from schemas.artifacts import RunRecord, result_digest
from schemas.config import RunConfig
from schemas.errors import ConfigError, DataError, RunError, UnreachableError
from schemas.estimates import batch_shortage
from storage import layout
from storage.artifacts import Standings
from storage.demo_tiles import DEMO_TILES
from storage.given_masks import given_digest
from storage.photographs import (
    Candidate,
    Limits,
    file_digest,
    inspect,
    is_annotation,
    list_candidates,
    listing_digest,
    read_candidate,
    source_folder,
)
from storage.provenance import provenance
from storage.reuse import compare
from storage.run import (
    Run,
    check_placement,
    create_run,
    defines_result,
    difference,
    find_run,
    mend_record,
    replace_record,
    with_pinned_numerics,
)
from storage.sources import absolute, expand
from storage.store import open_store


def default_run(config_name: str) -> str:
    """Where a run is kept when nothing is said: a folder named after the config, under CYBORGS_STORAGE or ./runs."""
    return f"{_storage()}/{Path(config_name).stem}"


def locate_run(run: str) -> str:
    """The run that a flow's parameter means: a bare name stands below CYBORGS_STORAGE."""
    return f"{_storage()}/{run}" if "/" not in run else run


def _storage() -> str:
    return os.environ.get("CYBORGS_STORAGE", "runs").rstrip("/")


def prepare_run(url: str, config: RunConfig, *, name: str, data: tuple[str, ...] = (), update: bool = False) -> Run:
    """Open the run at `url` with that config, or create it.

    Args:
        name: of the config, for people.
        data: where the photographs are; else what the run knows, else the config's `placement.data`.
        update: take over a config that leads to other results; artifacts that stay valid are kept.

    Raises:
        CyborgsError: what is wrong, where, and what to do; nothing has been written then.
    """
    run = find_run(url)
    if run is not None:
        _see_to_record(run)
    if run is None:
        record = _new_record(config, name=name, data=data or config.placement.data)
        check_space(open_store(url), record)
        return create_run(url, record)
    if not _has_artifacts(run):
        # Nothing stands on what this run was told, so a mended --data or config simply takes its place.
        run = _start_over(run, config, name=name, data=data or config.placement.data or run.record.data)
    else:
        run = _take_up(run, with_pinned_numerics(config, run.config), name=name, data=data, update=update)
    check_space_left(run)
    return run


def _see_to_record(run: Run) -> None:
    """Say what of run.json is not as it was written, and put right what can be."""
    told = run.restored or check_placement(run)
    if told is not None:
        print(f"warning: run {run.store.url}: {told}", file=sys.stderr, flush=True)
    mend_record(run)


def _replace(run: Run, record: RunRecord, *, note: dict[str, tuple[Any, Any]]) -> Run:
    """Change what the run was told, if what that leads to fits."""
    check_space_left(Run(run.store, record))
    return replace_record(run, record, note=note)


def _has_artifacts(run: Run) -> bool:
    return any(path.endswith(f"/{layout.MANIFEST}") for path in run.store.list(""))


def _start_over(run: Run, config: RunConfig, *, name: str, data: tuple[str, ...]) -> Run:
    record = _new_record(config, name=name, data=data)
    if (record.config, record.data, record.pins) == (run.config, run.record.data, run.record.pins):
        return run
    changes = difference(run.config, record.config)
    if run.record.data != record.data:
        changes["data"] = (list(run.record.data), list(record.data))
    _check_nobody_at_work(run)
    return _replace(run, record.model_copy(update={"history": run.record.history}), note=changes)


def _check_nobody_at_work(run: Run) -> None:
    """Whoever makes the first artifact of a run does so under what it was told then."""
    for found in Standings(run).all():
        holder = run.store.holder(f"{found.folder}/{layout.LEASE}") if found.folder is not None else None
        if holder is not None:
            raise RunError(
                f"run {run.store.url}: {holder} is at work on {found.step.name}, with other settings or photographs: "
                "wait until it is done, or choose another --run"
            )


def _take_up(run: Run, config: RunConfig, *, name: str, data: tuple[str, ...], update: bool) -> Run:
    changes = difference(run.config, config)
    defining = {setting: change for setting, change in changes.items() if defines_result(setting)}
    if defining and not update:
        shown = ", ".join(f"{setting} {before!r} -> {after!r}" for setting, (before, after) in defining.items())
        raise RunError(
            f"run {run.store.url} was made with other settings: {shown}; "
            "choose another --run, add --update to change this one, or go on with its own: `cyborgs run --run "
            f"{run.store.url}`"
        )
    note = dict(changes)
    if data and tuple(absolute_source(source) for source in data) != run.record.data:
        data = tuple(absolute_source(source) for source in data)
        for source in data:
            source_folder(source)
        note["data"] = (list(run.record.data), list(data))
    if not note:
        return run
    record = with_config(run.record, config, name=name if defining else run.record.name)
    changed = _replace(run, record.model_copy(update={"data": data or run.record.data}), note=note)
    if defining:
        _say_what_stays(run, changed)
    return changed


def with_config(record: RunRecord, config: RunConfig, *, name: str) -> RunRecord:
    """What a run is told when it takes over a config; start weights are looked for where they have changed.

    Raises:
        CyborgsError: the config and the run's photographs or start weights do not go together.
    """
    _check_may_be_written_down(config)
    _check_fills_a_batch(record.photographs, config, where=f"{record.name}")
    changed = record.model_copy(update={"name": name, "config": config, "config_digest": result_digest(config)})
    if record.config.network.start != config.network.start:
        start, digest = _find_start(config)
        changed = changed.model_copy(update={"start": start, "pins": _pinned(changed, "start", digest)})
    if record.config.masks.source_paths != config.masks.source_paths:
        masks, digest = _find_masks(config)
        changed = changed.model_copy(update={"masks": masks, "pins": _pinned(changed, "masks", digest)})
    return changed


def _pinned(record: RunRecord, name: str, digest: str | None) -> dict[str, str]:
    """The run's pins with one of them changed, or gone."""
    kept = {key: value for key, value in record.pins.items() if key != name}
    return kept | ({name: digest} if digest is not None else {})


def _say_what_stays(before: Run, after: Run) -> None:
    for verdict in compare(before, after):
        print(f"{verdict.name:<26}{'stays' if verdict.stays else 'anew':<7}{verdict.why}", file=sys.stderr)


def _new_record(config: RunConfig, *, name: str, data: tuple[str, ...]) -> RunRecord:
    if not data:
        raise DataError("no photographs given: add --data FOLDER")
    data = tuple(absolute_source(source) for source in data)
    _check_may_be_written_down(config)
    _check_given_once(data)
    candidates = list_candidates(data)
    _check_fills_a_batch(len(candidates), config, where=f"--data {' '.join(data)}")
    _check_one_decodes(data, candidates, Limits.of(config.index))
    start, of_start = _find_start(config)
    masks, of_masks = _find_masks(config)
    config = pin_numerics(config)
    pins = {"photographs": listing_digest(candidates), "start": of_start, "masks": of_masks}
    return RunRecord(
        name=name,
        config=config,
        config_digest=result_digest(config),
        data=data,
        pins={name: digest for name, digest in pins.items() if digest is not None},
        start=start,
        masks=masks,
        photographs=len(candidates),
        created=provenance(),
    )


def _check_may_be_written_down(config: RunConfig) -> None:
    """What the config names goes into run.json, whether this run reads from there or not: no URL with credentials."""
    for source in (*config.placement.data, *(planned.data for planned in config.evaluate.protocols)):
        absolute_source(source)


def _check_given_once(data: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for source in data:
        real = os.path.realpath(source)
        if real in seen:
            raise DataError(f"--data {source}: given twice, its photographs would count twice; leave one out")
        seen.add(real)


def _check_fills_a_batch(photographs: int, config: RunConfig, *, where: str) -> None:
    shortage = batch_shortage(photographs, config.optimization.batch_size)
    if shortage is not None:
        raise DataError(f"{where}: {shortage}")


def absolute_source(source: str) -> str:
    """A run may be taken up from another working directory."""
    if source == DEMO_TILES:
        return source
    if is_annotation(source) and "=" in source:
        return "=".join(absolute(part) for part in source.split("=", 1))
    return absolute(source)


def _check_one_decodes(data: tuple[str, ...], candidates: list[Candidate], limits: Limits) -> None:
    folders = [source_folder(source) for source in data]
    reason = ""
    for candidate in candidates:
        try:
            inspect(read_candidate(folders[candidate.source], candidate, limits), limits)
        except UnreachableError:
            raise
        except (DataError, OSError) as error:
            reason = reason or f"{candidate.key}: {error}"
        else:
            return
    raise DataError(
        f"--data {' '.join(data)}: none of {len(candidates)} photographs can be read ({reason}); give other photographs"
    )


def _find_start(config: RunConfig) -> tuple[str | None, str | None]:
    """File and digest of the start weights; another run stands for the backbone it reached last."""
    start = config.network.start
    if start == "random":
        return None, None
    path = expand(start)
    if path.is_dir():
        other = find_run(start)
        if other is None:
            raise ConfigError(f"network.start {start}: this folder is not a run (no {layout.RUN_RECORD})")
        if other.config.network.architecture != config.network.architecture:
            raise ConfigError(
                f"network.start {start}: that run has a {other.config.network.architecture}, "
                f"this one a {config.network.architecture}"
            )
        trained = [
            found
            for found in Standings(other).all()
            if found.state == "done" and found.step.stage in ("warm-up", "train")
        ]
        if not trained:
            raise ConfigError(f"network.start {start}: that run has no trained weights yet")
        path = other.store.fetch(f"{trained[-1].folder}/{layout.MODEL}")
    if not path.is_file():
        raise ConfigError(f'network.start {start}: no such file or run; use "random", a .pth or a .safetensors file')
    return str(path.absolute()), file_digest(path)


def _find_masks(config: RunConfig) -> tuple[tuple[str, ...], str | None]:
    """Where a person's masks are, and their digest."""
    paths = []
    for given in config.masks.source_paths:
        path = expand(given)
        if not path.exists():
            raise ConfigError(f"masks.source_paths {given}: no such file or folder")
        paths.append(path.absolute())
    return tuple(map(str, paths)), given_digest(paths) if paths else None


def all_done(run: Run) -> bool:
    """Whether nothing of the plan is left to do."""
    return all(found.state == "done" for found in Standings(run).all())

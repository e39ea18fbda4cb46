"""Plain text for people: the plan, the settings, and where a run stands."""

from collections.abc import Sequence

from pydantic import BaseModel

from schemas.config import RunConfig
from schemas.errors import EXIT_FAILED
from schemas.plan import Step, plan
from storage import layout
from storage.alarms import paused_at
from storage.artifacts import Standing, Standings
from storage.heartbeat import read_heartbeat
from storage.run import Run


def print_plan(name: str, config: RunConfig) -> None:
    """The stages of a config, in order, with the epochs that they train."""
    schedule = config.schedule
    print(
        f"{name}: {config.network.architecture}, {config.augmentation.crop_size} px, "
        f"{schedule.epochs} epochs, {config.optimization.batch_size} photographs a step"
    )
    print_table(
        ("stage", "epochs from 0", "loss"),
        [(step.name, _epochs(step), _loss(config, step)) for step in plan(config)],
    )


def print_settings(config: RunConfig) -> None:
    """Every setting with its value and meaning."""
    for name, model in config:
        if not isinstance(model, BaseModel):
            print(f"{name} = {_value(model)}\n    {_meaning(config, name)}")
            continue
        for field, value in model:
            print(f"{name}.{field} = {_value(value)}\n    {_meaning(model, field)}")


def print_status(run: Run) -> None:
    """Where each stage stands, with what its manifest says."""
    record = run.record
    print(f"{run.store.url}: {record.name}, {record.photographs} photographs from {', '.join(record.data)}")
    standings = Standings(run).all()
    print_table(("stage", "state", "made", "took", "figures"), [_status_row(run, found) for found in standings])
    done = sum(found.state == "done" for found in standings)
    print(f"{done} of {len(standings)} stages done")
    if run.store.size(layout.REPORT) is not None:
        print(f"report: {run.store.url}/{layout.REPORT}")


def print_verification(run: Run) -> int:
    """Every artifact with what is wrong with it; returns the exit code, 1 where something is damaged."""
    # Of the commands here, it alone reads mask stores, and pays for zarr.
    from storage.verification import verify_run

    whole = damaged = changed = 0
    for finding in verify_run(run):
        verdict = "damaged" if finding.damage else "changed" if finding.harmless else "whole"
        print(f"{verdict:<9}{finding.name:<26}{finding.folder}", flush=True)
        for fault in (*finding.damage, *finding.harmless):
            print(f"         {fault}", flush=True)
        whole, damaged = whole + (verdict == "whole"), damaged + (verdict == "damaged")
        changed += verdict == "changed"
    beside = f", {changed} changed in what is only told" if changed else ""
    print(f"{run.store.url}: {whole} whole, {damaged} damaged{beside}")
    if damaged:
        print("what is damaged is pending now: give the run's own `cyborgs run` command again to make it anew")
    return EXIT_FAILED if damaged or changed else 0


def _status_row(run: Run, found: Standing) -> tuple[str, ...]:
    manifest = found.manifest
    if manifest is None:
        holder = run.store.holder(f"{found.folder}/{layout.LEASE}") if found.folder is not None else None
        state = "running" if holder is not None else found.state
        return found.step.name, state, "", "", found.problem or _reached(run, found, holder)
    figures = "  ".join(f"{name} {value}" for name, value in manifest.summary.items())
    made = manifest.provenance.created.replace("T", " ").removesuffix("+00:00")
    return found.step.name, found.state, made, f"{manifest.provenance.seconds:.1f} s", figures


def _reached(run: Run, found: Standing, holder: str | None) -> str:
    """How far a running stage is, and who is at it; of one that stopped, where."""
    if holder is None:
        return _stopped(run, found) if found.state == "partial" else ""
    beat = read_heartbeat(run, found.step)
    return f"{beat.position if beat else ''}  ({holder})".strip()


def _stopped(run: Run, found: Standing) -> str:
    """At which alarm a stage paused, else how far it had come."""
    from stages.metrics_log import read_metrics

    words = paused_at(run, found.step)
    if words:
        return f"paused at {words}"
    assert found.key is not None
    logged = read_metrics(run, found.step, found.key)
    return f"stopped in epoch {logged[-1]['epoch']:g}, goes on from its last save" if logged else ""


def _epochs(step: Step) -> str:
    if step.first_epoch == step.last_epoch:
        return f"before {step.first_epoch}" if step.stage == "bootstrap-masks" else ""
    return f"{step.first_epoch} to {step.last_epoch - 1}"


def _loss(config: RunConfig, step: Step) -> str:
    if step.stage == "warm-up" and step.last_epoch:
        return "vMF"
    if step.stage != "train":
        return ""
    every = config.train.vmf_every_epochs
    if not every or not config.train.vmf_weight:
        return "mask"
    return f"mask, + {config.train.vmf_weight:g} vMF where epoch % {every} == 0"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(str(part) for part in value) + "]"
    return "null" if value is None else str(value)


def _meaning(model: BaseModel, field: str) -> str:
    return type(model).model_fields[field].description or ""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

"""The flow `study`: variants of one config with several seeds, what they share computed once, one table at the end."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Failed

from flows.copying import copy_artifact
from flows.cyborgs import alternate, make
from flows.launchers.process import GRACE_SECONDS, stop
from flows.numerics import pin_numerics
from flows.prepare import locate_run, prepare_run
from flows.stopping import as_prefect_ends
from flows.study_checks import check_study
from flows.watch import print_line
from schemas.config import RunConfig
from schemas.errors import (
    EXIT_PREEMPTED,
    CyborgsError,
    DamagedArtifactError,
    PausedError,
    PreemptedError,
    StageFailedError,
)
from schemas.loading import parse_config
from schemas.plan import Step, plan
from schemas.results import SkippedProtocol
from schemas.study import Study, load_study
from schemas.study_plan import planned_steps
from storage import layout
from storage.artifacts import Standing, Standings, retract, tidy
from storage.manifests import read_manifest
from storage.run import Run, find_run
from storage.store import open_store
from storage.studies import PRECISION, RESULTS, SHARING, Member, members, result_path, trained


@flow(name="study", persist_result=False)
def study(study: str, root: str, data: list[str] | None = None, smoke: bool = False) -> list[str] | State[Any]:
    """Train and measure all variants of a study; what is done already is not done again.

    Args:
        study: A name under configs/studies/ or a YAML file.
        root: Where its runs, results and table are kept: a name below CYBORGS_STORAGE, or a path.
        data: Photographs to learn from, instead of the study's own.
        smoke: One seed and two epochs a variant, to see that it runs to its table.

    Returns:
        Members that failed, each with its reason; the others are not touched by it.
    """
    try:
        with as_prefect_ends():
            _, asked = load_study(study, smoke=smoke)
            failed = conduct(asked, locate_run(root), data=tuple(data or ()) or asked.data)
    except CyborgsError as error:
        if deployment.id is None:
            raise
        return Failed(message=str(error))
    return failed if deployment.id is None or not failed else Failed(message="; ".join(failed))


def conduct(study: Study, root: str, *, data: tuple[str, ...]) -> list[str]:
    """All members, one after the other; of several commands on one root each takes what nobody is at work on.

    Raises:
        ConfigError: something that the study names is not there, or is not what it was begun with.
        DataError: photographs are missing.
    """
    check_study(study, root, data=data)
    (Path(root) / RESULTS).mkdir(parents=True, exist_ok=True)
    open_store(root).write("study.json", study.model_dump_json(indent=1).encode())
    _try_again_what_was_skipped(study, root)
    failed, taken = [], []
    for member in members(study):
        try:
            failed += _see_to(study, member, root, data=data, waiting=_pass_by)
        except _AtWorkError:
            taken.append(member)
    for member in taken:
        failed += _see_to(study, member, root, data=data, waiting=lambda holder: print_line(f"waiting for {holder}"))
    return failed


class _AtWorkError(Exception):
    """Another command is at work on a member."""


def _pass_by(_holder: str) -> None:
    raise _AtWorkError


def _see_to(
    study: Study, member: Member, root: str, *, data: tuple[str, ...], waiting: Callable[[str], None]
) -> list[str]:
    """One member, and the table after it; the reason if it failed."""
    failed = []
    with open_store(root).lease(member.lease, waiting=waiting):
        print_line(f"== {member.name}")
        try:
            if study.variants[member.variant].weights is None:
                _train(study, member, root, data=data)
            else:
                _measure(study, member, root)
        except (PreemptedError, PausedError):
            raise
        except CyborgsError as error:
            failed.append(f"{member.name}: {error}")
            print_line(f"{member.name} failed: {error}")
    try:
        _child(["-m", "stages.study_report", root], "the table")
    except StageFailedError as error:  # it can be made again from what is there
        print_line(str(error))
    return failed


def _train(study: Study, member: Member, root: str, *, data: tuple[str, ...]) -> None:
    run = prepare_run(member.run(root), settled(study, member, root), name=member.variant, data=data, update=True)
    # What several members make alike is made by one command at a time, so that the next finds it.
    with open_store(root).lease(SHARING, waiting=lambda holder: print_line(f"waiting for {holder}: a shared stage")):
        adopt(run, _others(study, member, root))
        for step in _shared(study, member):
            make(run, step)
    missed = alternate(run)
    tidy(run)
    if missed:
        raise StageFailedError(f"{', '.join(missed)} failed: `cyborgs status {run.store.url}`")
    reasons = dict.fromkeys(reason for _, reason in _skipped(run))
    if reasons:
        raise StageFailedError("; ".join(reasons))


def settled(study: Study, member: Member, root: str) -> RunConfig:
    """The config of a member, in the number format that the machine on which its study began has settled on."""
    config = study.config(member.variant, member.seed)
    if config.numerics.precision != "auto":
        return config
    store = open_store(root)
    store.create(PRECISION, pin_numerics(config).numerics.precision.encode())
    return parse_config(
        config.model_dump()
        | {"numerics": config.numerics.model_dump() | {"precision": store.read(PRECISION).decode()}},
        where=f"{root}/{PRECISION}",
    )


def _others(study: Study, member: Member, root: str) -> list[Run]:
    """Runs of other members, as far as they can be read: what is wrong with one is told when its own turn comes."""
    found = []
    for each in members(study):
        with contextlib.suppress(CyborgsError):
            other = find_run(each.run(root)) if each != member else None
            found += [other] if other is not None else []
    return found


def _try_again_what_was_skipped(study: Study, root: str) -> None:
    """What was missing may be there now. What was measured beside it stays."""
    for member in trained(study):
        with contextlib.suppress(CyborgsError, _AtWorkError), open_store(root).lease(member.lease, waiting=_pass_by):
            run = find_run(member.run(root))
            if run is None:
                continue
            for found, _ in _skipped(run):
                measured = {Path(path).stem: text for path, text, skipped in _results(run, found) if skipped is None}
                retract(run, found, keep=measured)


def _skipped(run: Run) -> list[tuple[Standing, str]]:
    """Evaluations in which a protocol was skipped, since its labels or a package were not there, and why."""
    found = []
    for each in Standings(run).all():
        if each.step.stage != "evaluate" or each.state != "done":
            continue
        for _, _, skipped in _results(run, each):
            if skipped is not None:
                found.append((each, f"{skipped.protocol} was skipped: {skipped.skipped}"))
    return found


def _results(run: Run, found: Standing) -> Iterator[tuple[str, bytes, SkippedProtocol | None]]:
    """Each protocol's file of an evaluation: path, what it holds, and why it was skipped, where it was."""
    for path in run.store.list(f"{found.folder}/{layout.PROTOCOLS}"):
        text = run.store.read(path)
        yield path, text, SkippedProtocol.read(text)


def _shared(study: Study, member: Member) -> list[Step]:
    """Steps of a member that others make alike, but for evaluations: they hang beside the path."""
    configs = {each.name: study.config(each.variant, each.seed) for each in trained(study)}
    return [
        each.step
        for each in planned_steps(configs)
        if member.name in each.members and len(each.members) > 1 and each.step.stage != "evaluate"
    ]


def adopt(run: Run, others: list[Run]) -> list[str]:
    """Copy what other runs of the study have made already and this one would make alike; names of those steps."""
    taken = []
    for step in plan(run.config):
        found = Standings(run).of(step)
        if found.key is None or found.folder is None or found.state == "done":
            continue
        for other in others:
            manifest = read_manifest(other, found.folder, found.key).manifest
            if manifest is None or other.store.size(f"{found.folder}/{layout.THINNED}") is not None:
                continue
            with run.store.lease(f"{found.folder}/{layout.LEASE}", waiting=lambda _: None):
                if Standings(run).of(step).state == "done":
                    break
                try:
                    copy_artifact(other, run, found.folder, manifest)
                except DamagedArtifactError as error:
                    print_line(f"{step.name}: not taken over: {error}")
                    continue
            print_line(f"{step.name}: as in {other.store.url}")
            taken.append(step.name)
            break
    return taken


_EVALUATE = """
import sys
from cli.main import entry
from stages.interruption import stop_with_parent
stop_with_parent(int(sys.argv.pop(1)))
entry()
"""


def _measure(study: Study, member: Member, root: str) -> None:
    """Weights that are not trained, by a child process: this one has no torch."""
    weights = study.variants[member.variant].weights
    assert weights is not None
    config = study.config(member.variant, member.seed)
    for planned in study.measure:
        out = result_path(study, member, planned)
        if open_store(root).size(out) is not None:
            continue
        settings = [*planned.set, f"seed={member.seed}", f"device={config.placement.device}"]
        if weights == "random":
            settings.append(f"architecture={config.network.architecture}")
        if config.numerics.threads is not None:
            settings.append(f"threads={config.numerics.threads}")
        command = ["evaluate", planned.protocol, "--weights", weights, "--data", planned.data]
        _child(
            ["-c", _EVALUATE, str(os.getpid()), *command, "--out", f"{root}/{out}", "--set", *settings], planned.title
        )


def _child(arguments: list[str], what: str) -> None:
    """Run a command whose lines go to the terminal; its last one says what went wrong. Asked to stop, it may save."""
    last = ""
    with subprocess.Popen(
        [sys.executable, "-P", *arguments],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                print_line(line.rstrip("\n"))
                last = line.strip() or last
        except BaseException as reason:
            saved = stop(child, GRACE_SECONDS) in (0, EXIT_PREEMPTED)
            raise PreemptedError(f"{what}: stopped" + ("" if saved else " before it could save")) from reason
    if child.returncode == EXIT_PREEMPTED:
        raise PreemptedError(f"{what}: stopped")
    if child.returncode:
        raise StageFailedError(f"{what}: {last or f'exit code {child.returncode}'}")

"""`cyborgs run`: prepare, and where something is left to do run the flow on Prefect's embedded server."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from flows.launching import check_machine
from flows.prepare import all_done, prepare_run
from flows.requests import understand
from schemas.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PREEMPTED, ConfigError, PreemptedError
from storage import layout
from storage.artifacts import Standings, fingerprint, tidy
from storage.page import unmark
from storage.retention import thin_out
from storage.run import Run, open_run

_PREFECT = {
    # Its messages would stand between a stage's own lines; the UI of a server shows them all the same.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # Of a busy machine: its own 20 s are for an idle one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def create_run(config: str | None, *, data: list[str], url: str | None, assignments: list[str], update: bool) -> int:
    """Make the run, or let it take over what has changed, and start nothing; returns the exit code.

    Raises:
        CyborgsError: bad input.
    """
    asked = understand(config, assignments, url)
    run = prepare_run(asked.url, asked.config, name=asked.name, data=tuple(data), update=update)
    print(f"{run.store.url}: {asked.name}, {run.record.photographs} photographs; next: cyborgs stage index-images")
    return 0


def extend_run(url: str, *, epochs: int) -> int:
    """Train a run for more epochs than it was made for; returns the exit code.

    Raises:
        CyborgsError: it has more epochs already, or as for `run_pipeline`.
    """
    schedule = open_run(url).config.schedule
    if epochs < schedule.epochs:
        raise ConfigError(f"--epochs {epochs}: run {url} has {schedule.epochs}; give a larger total")
    more = [f"schedule.epochs={epochs}", f"schedule.extended_from={[*schedule.extended_from, schedule.epochs]}"]
    assignments = more if epochs > schedule.epochs else []
    return run_pipeline(None, data=[], url=url, assignments=assignments, update=True)


def run_pipeline(config: str | None, *, data: list[str], url: str | None, assignments: list[str], update: bool) -> int:
    """Run what is not done; returns the exit code.

    Args:
        config: left out what the run at `url` was made with.

    Raises:
        CyborgsError: bad input, or a stage failed.
    """
    asked = understand(config, assignments, url)
    run = prepare_run(asked.url, asked.config, name=asked.name, data=tuple(data), update=update)
    if all_done(run):
        print(f"{run.store.url}: nothing to do, all stages are done")
        _print_results(run)
        return 0
    check_machine(run)
    print(f"{run.store.url}: {asked.name}, {run.record.photographs} photographs", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        failed = _run_flow(config, assignments, run)
    except PreemptedError as error:
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_PREEMPTED
    _print_results(run)
    if failed:
        print(f"{', '.join(failed)} failed, see above; the backbone is there all the same", file=sys.stderr)
        return EXIT_FAILED
    return 0


class _Children:
    """The module `subprocess` as Prefect's server sees it, which starts its embedded server by it."""

    def __getattr__(self, name: str) -> object:
        return getattr(subprocess, name)

    @staticmethod
    def Popen(args: list[str], **options: Any) -> "subprocess.Popen[bytes]":  # noqa: N802
        """Ctrl-C signals all of the terminal's process group, and the server has to outlive the stop; in a session of
        its own it would outlive this process too, when that is killed.
        """
        if args[1:3] == ["-m", "uvicorn"]:
            args = [args[0], "-P", "-m", "cli.embedded_server", str(os.getpid()), *args[3:]]
        return subprocess.Popen(args, start_new_session=True, **options)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM outside of any stage: leave in good order, so that the embedded server ends too."""
    raise PreemptedError("stopped between two stages")


def study_pipeline(study: str, root: str, data: list[str], *, smoke: bool) -> int:
    """Run what of a study is not done; returns the exit code.

    Raises:
        CyborgsError: bad input.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with _embedded_prefect():
            from flows.study import study as flow

            failed = flow(study=study, root=root, data=data, smoke=smoke)
    except PreemptedError as error:
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_PREEMPTED
    print((Path(root) / "table.md").read_text())
    print(f"table: {root}/table.md, {root}/table.csv")
    if smoke:
        print("a smoke run: it shows that the study runs, its figures say nothing")
    assert isinstance(failed, list), "a deployment's run alone ends with a state"
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return EXIT_FAILED if failed else 0


@contextmanager
def _embedded_prefect() -> Iterator[None]:
    """Prefect with a server that starts and ends with this process, and keeps its messages to itself."""
    for name, value in _PREFECT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Prefect's own dependencies; nothing a user can mend
        from prefect.server.api import server

        vars(server)["subprocess"] = _Children()
        yield


def _run_flow(config: str | None, assignments: list[str], run: Run) -> list[str]:
    with _embedded_prefect():
        from flows.cyborgs import cyborgs

        failed = cyborgs(config=config, set=assignments, data=list(run.record.data), run=run.store.url)
        assert isinstance(failed, list), "a deployment's run alone ends with a state"
        return failed


def _refresh_report(run: Run) -> None:
    standings = Standings(run).all()
    if not any(found.state == "done" and found.step.cycle is not None for found in standings):
        return
    if run.store.size(layout.REPORT) is not None:
        page = unmark(run.store.read(layout.REPORT))
        if page is not None and fingerprint(standings).encode() in page:
            return
    from stages.report.page import write_report

    write_report(run)


def _print_results(run: Run) -> None:
    """Where to find what people came for, brought up to date where a kill or --update left it behind."""
    from stages.scratch import sweep

    tidy(run)
    thin_out(run)
    sweep()
    _refresh_report(run)
    done = [found for found in Standings(run).all() if found.state == "done"]
    places = {
        "backbone": [f"{found.folder}/{layout.MODEL}" for found in done if found.step.stage == "train"][-1:],
        "masks": [
            _masks_place(run, found.step.cycle, f"{found.folder}/{layout.MASKS}")
            for found in done
            if found.step.stage == "bootstrap-masks" and found.step.cycle is not None
        ],
        "report": [layout.REPORT] if run.store.size(layout.REPORT) is not None else [],
    }
    for what, paths in places.items():
        for path in paths:
            print(f"{what + ':':<10}{run.store.url}/{path}")


def _masks_place(run: Run, cycle: int, store: str) -> str:
    """The link to a cycle's masks, where storage has links."""
    link = layout.masks_pointer(cycle)
    return link if run.store.size(f"{link}/zarr.json") is not None else store

"""`python -P -m stages NAME --run URL [--cycle C] [--force]`: the one way to run a stage, with no Prefect needed."""

import argparse
import atexit
import contextlib
import os
import sys
import traceback
from typing import NoReturn

from schemas.errors import (
    DEBUG,
    EXIT_FAILED,
    EXIT_LOST_PEER,
    EXIT_PAUSED,
    EXIT_PREEMPTED,
    CyborgsError,
    UnreachableError,
)
from schemas.plan import find_step
from schemas.stages import STAGE_NAMES, StageRequest


def main(arguments: list[str] | None = None) -> int:
    """Run a stage.

    Returns:
        The exit code: 0 done, 2 bad input, 3 paused at an alarm (75 under `cyborgs run`, which pauses itself), 75
        preempted, 76 another process of the stage was lost, 1 anything else.
    """
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    parser.add_argument("name", choices=STAGE_NAMES)
    parser.add_argument("--run", required=True, metavar="URL", help="path or URL of the run")
    parser.add_argument("--cycle", type=int, help="for bootstrap-masks, train and evaluate")
    parser.add_argument("--force", action="store_true", help="compute again what is done")
    parser.add_argument(
        "--with-parent", type=int, nargs="?", const=0, metavar="PID", help="stop when the parent process is gone"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    given = parser.parse_args(arguments)
    if given.cycle is not None and given.cycle < 0:
        parser.error(f"--cycle {given.cycle}: cycles count from 0")
    if given.with_parent is not None:
        from stages.interruption import stop_with_parent

        stop_with_parent(given.with_parent or None)
    if given.debug:
        os.environ[DEBUG] = "1"
    request = StageRequest(run=given.run, stage=given.name, cycle=given.cycle, force=given.force)
    return execute(request, by_hand=given.with_parent is None)


def execute(request: StageRequest, *, by_hand: bool = True) -> int:
    """Run a stage in as many processes as its run says, and turn what comes of it into an exit code and a line.

    Args:
        by_hand: not by `cyborgs run`, which has said already what of run.json is not as it was written, and says itself
            at which alarm a stage paused.
    """
    code = _execute(request, by_hand=by_hand)
    if by_hand and code == EXIT_PREEMPTED:
        from storage.alarms import paused_at, take_alarm
        from storage.run import open_run

        with contextlib.suppress(UnreachableError):  # the word stays, and whoever goes on is told once more
            run = open_run(request.run)
            step = find_step(run.config, request.stage, request.cycle)
            if take_alarm(run, step) is not None and paused_at(run, step):
                return EXIT_PAUSED
    return code


def _execute(request: StageRequest, *, by_hand: bool) -> int:
    try:
        from stages.execute import follow_stage, processes_to_start, run_stage
        from stages.scratch import own_temporary_folder
        from stages.team import find_team
        from stages.workers import run_workers

        own_temporary_folder()
        team = find_team()
        count = processes_to_start(request, team)
        if by_hand and team.leads:
            _say_of_record(request.run)
        if count > 1:
            return run_workers(request, count)
        if not team.leads:
            follow_stage(request, team)
            return 0
        result = run_stage(request, team)
    except CyborgsError as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        print(error, file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if _lost_peer(error):
            if os.environ.get(DEBUG):
                traceback.print_exc()
            print(f"{request.stage}: lost another process of this stage: {error}", file=sys.stderr)
            return EXIT_LOST_PEER
        traceback.print_exc()
        print(
            f"{request.stage}: {type(error).__name__}: {error} (this is a fault of the program; "
            "what was saved is kept)",
            file=sys.stderr,
        )
        return EXIT_FAILED
    if not result.computed:
        print(f"{result.name}: done already", file=sys.stderr)
    return 0


def _say_of_record(url: str) -> None:
    from storage.run import check_placement, open_run

    run = open_run(url)
    told = run.restored or check_placement(run)
    if told is not None:
        print(f"warning: run {run.store.url}: {told}", file=sys.stderr, flush=True)


def _lost_peer(error: Exception) -> bool:
    # Not imported for this: a stage in one process, such as index-images, needs no torch.
    distributed = sys.modules.get("cyborgs.distributed")
    return distributed is not None and isinstance(error, distributed.LostPeerError)


def _end(code: int) -> NoReturn:
    """End this process, what is registered for its end done first, without taking torch apart object by object: that
    takes over a second, at the end of every stage.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())

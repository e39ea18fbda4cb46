"""`python -P -m stages NAME --run URL [--cycle C] [--force]`: the one way to run a stage, with no Prefect needed."""

import argparse
import os
import sys
import traceback

from schemas.errors import DEBUG, EXIT_FAILED, CyborgsError
from schemas.stages import STAGE_NAMES, StageRequest


def main(arguments: list[str] | None = None) -> int:
    """Run a stage; returns the exit code: 0 done, 2 bad input, 75 preempted, 1 anything else."""
    parser = argparse.ArgumentParser(prog="python -m stages", description=__doc__)
    parser.add_argument("name", choices=STAGE_NAMES)
    parser.add_argument("--run", required=True, metavar="URL", help="path or URL of the run")
    parser.add_argument("--cycle", type=int, help="for bootstrap-masks, train and evaluate")
    parser.add_argument("--force", action="store_true", help="compute again what is done")
    parser.add_argument("--with-parent", action="store_true", help="stop when the parent process is gone")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    given = parser.parse_args(arguments)
    if given.cycle is not None and given.cycle < 0:
        parser.error(f"--cycle {given.cycle}: cycles count from 0")
    if given.with_parent:
        from stages.interruption import stop_with_parent

        stop_with_parent()
    if given.debug:
        os.environ[DEBUG] = "1"
    return execute(StageRequest(run=given.run, stage=given.name, cycle=given.cycle, force=given.force))


def execute(request: StageRequest) -> int:
    """Run a stage in this process and turn what comes of it into an exit code and a line."""
    try:
        from stages.execute import run_stage

        result = run_stage(request)
    except CyborgsError as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        print(error, file=sys.stderr)
        return error.exit_code
    except Exception as error:
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


if __name__ == "__main__":
    sys.exit(main())

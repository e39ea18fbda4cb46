"""An attempt without Prefect: `loop` runs the stages as the flow does, `torchrun` as docs/distributed.md does."""

import argparse
import os
import subprocess
import sys

from flows.launching import run_step
from flows.prepare import prepare_run
from flows.watch import Watch
from schemas.errors import CyborgsError
from schemas.loading import load_config
from schemas.plan import Step, plan
from schemas.stages import StageRequest
from stages.team import SHARED_STAGES
from storage.artifacts import standing
from storage.run import open_run


def main() -> int:
    """Run every step that is not done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("loop", "torchrun"))
    parser.add_argument("config")
    parser.add_argument("--data")
    parser.add_argument("--run")
    parser.add_argument("--set", nargs="*")
    given = parser.parse_args()
    try:
        run = prepare_run(given.run, load_config(given.config, given.set), name=given.config, data=(given.data,))
        for step in plan(run.config):
            request = StageRequest(run=given.run, stage=step.stage, cycle=step.cycle)
            if given.kind == "loop":
                run_step(request, Watch(run, step))
            elif code := _by_hand(given.run, step, request):
                return code
    except CyborgsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _by_hand(url: str, step: Step, request: StageRequest) -> int:
    run = open_run(url)
    if standing(run, step.stage, step.cycle).state == "done":
        return 0
    command = request.command()
    if step.stage in SHARED_STAGES:
        processes = str(run.config.numerics.world_size)
        agent = ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", processes]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--shutdown-timeout", "120"]
        cycle = [] if step.cycle is None else ["--cycle", str(step.cycle)]
        stage = ["stages", step.stage, "--with-parent", "--run", url, *cycle]
        command = [sys.executable, *agent, *meeting, "-m", "--", *stage]
    return subprocess.run(command, env=os.environ | {"PYTHONSAFEPATH": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""One of the processes that share a stage, as torchrun starts them, each on a core of its own, in one thread.

    python -m torch.distributed.run --standalone --nproc-per-node N -m benchmarks.share REQUEST OUT

The process that leads writes the seconds of the stage to OUT: from where all have imported what they need.
"""

import os
import sys
import time
from pathlib import Path

from schemas.stages import StageRequest


def main(request: StageRequest, out: Path) -> None:
    """Take this process' share of a stage."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["LOCAL_RANK"]) % len(cores)]})  # before any library counts them
    from stages.execute import follow_stage, load_stage, run_stage
    from stages.team import find_team

    load_stage(request.stage)
    team = find_team()
    team.meet()
    if not team.leads:
        team.tell(f"ready {team.rank}")
        follow_stage(request, team)
        return
    for rank in range(1, team.size):
        team.hear(f"ready {rank}")
    started = time.perf_counter()
    run_stage(request, team)
    out.write_text(str(time.perf_counter() - started))


if __name__ == "__main__":
    main(StageRequest.model_validate_json(sys.argv[1]), Path(sys.argv[2]))

"""Stages in containers of their own, on a real engine."""

import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from statistics import fmean

import pytest

from tests.containers.conftest import UID
from tests.containers.stack import PROJECT, ROOT, Stack, request, run, wait_for
from tests.documents import read_blocks

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def contents(stack: Stack, name: str) -> dict[str, tuple[str, str]]:
    """Stage and cycle -> when it was made, and its content."""
    return {f"{m['stage']} {m['cycle']}": (m["provenance"]["created"], m["content"]) for m in stack.manifests(name)}


def test_every_stage_runs_in_a_container_of_its_own_as_the_user_that_was_set(stack: Stack, undisturbed: Path) -> None:
    found = stack.manifests("undisturbed")
    assert len(found) == 8
    hosts = [manifest["provenance"]["container"] for manifest in found]
    assert None not in hosts
    assert len(set(hosts)) == 8
    assert {manifest["provenance"]["user"] for manifest in found} == {"cyborgs"}
    assert {path.stat().st_uid for path in undisturbed.rglob("*")} == {UID}
    for host in hosts:
        described = json.loads(stack.docker("inspect", host))[0]
        assert described["Config"]["User"] == f"{UID}:{UID}"
        assert described["Config"]["Entrypoint"] == ["tini", "--"]
        assert described["HostConfig"]["ReadonlyRootfs"]
        assert described["HostConfig"]["CapDrop"] == ["ALL"]
        assert described["HostConfig"]["ShmSize"] == 512 * 2**20
        assert described["State"]["ExitCode"] == 0
        data = next(mount for mount in described["Mounts"] if mount["Destination"] == "/data")
        assert not data["RW"]


def test_the_page_shows_progress_results_and_lines(stack: Stack, undisturbed: Path) -> None:
    shown = {artifact["key"]: artifact for artifact in stack.artifacts("undisturbed-")}
    for stage in ("index-images", "warm-up", "train-cycle-0", "bootstrap-masks-cycle-1", "evaluate-cycle-1"):
        assert shown[f"undisturbed-{stage}"]["type"] == "progress"
        assert shown[f"undisturbed-{stage}"]["data"] == 100
    results = str(shown["undisturbed-results"]["data"])
    assert re.search(r"\| train cycle 1 \| done \| \d+ s \| .*mask_loss", results)
    assert "/storage/undisturbed/report/index.html" in results
    (stage,) = stack.flow_runs("cyborgs-stage/train", like="train cycle 1 of undisturbed")
    assert re.search(r"train cycle 1: done in \d+ s .*mask_loss", stack.log(stage.id))


def test_the_same_run_again_starts_no_container(stack: Stack, undisturbed: Path) -> None:
    before, stages = contents(stack, "undisturbed"), len(stack.flow_runs("cyborgs-stage/train"))
    again = stack.finish(stack.start("cyborgs/full", run="undisturbed"))
    assert again.state == "Completed", again.log
    assert contents(stack, "undisturbed") == before
    assert len(stack.flow_runs("cyborgs-stage/train")) == stages


def test_one_stage_again(stack: Stack, undisturbed: Path) -> None:
    """Labels come out equal, so what depends on them stays; one that is done is left alone without force."""
    before = contents(stack, "undisturbed")
    left = stack.finish(stack.start("cyborgs-stage/bootstrap-masks", run="undisturbed", cycle=1))
    assert left.state == "Completed", left.log
    assert contents(stack, "undisturbed") == before
    forced = stack.finish(stack.start("cyborgs-stage/bootstrap-masks", run="undisturbed", cycle=1, force=True))
    assert forced.state == "Completed", forced.log
    again = stack.finish(stack.start("cyborgs/full", run="undisturbed"))
    assert again.state == "Completed", again.log
    after = contents(stack, "undisturbed")
    assert {name for name in after if after[name][0] != before[name][0]} == {"bootstrap-masks 1"}
    assert {name: content for name, (_, content) in after.items()} == {n: c for n, (_, c) in before.items()}


def test_bad_input_is_one_line_in_the_state(stack: Stack, undisturbed: Path) -> None:
    late = stack.finish(stack.start("cyborgs-stage/train", run="undisturbed", cycle=7))
    assert late.state == "Failed"
    assert late.message == "cycle 7: this run has cycles 0 to 1"
    assert "Traceback" not in late.log
    missing = stack.finish(stack.start("cyborgs/full", config="demo", run="missing", data=["/data/nowhere"]))
    assert missing.state == "Failed"
    assert missing.message == "--data /data/nowhere: no such folder"
    assert not (stack.storage / "missing").exists()


def test_two_runs_take_turns_on_one_gpu_slot(stack: Stack) -> None:
    one_cycle = [*stack.SETTINGS, "schedule.epochs=4", "schedule.bootstrap_every_epochs=0"]
    flows = [stack.start_full(name, *one_cycle) for name in ("turn-a", "turn-b")]
    ends = [stack.finish(flow) for flow in flows]
    assert [end.state for end in ends] == ["Completed", "Completed"], [end.log for end in ends]
    assert ends[1].start < ends[0].end, "they did not run at once"
    spans = []
    for stage in ("warm-up", "bootstrap-masks", "train", "evaluate"):
        spans += [(each.start, each.end) for each in stack.flow_runs(f"cyborgs-stage/{stage}", like="of turn-")]
    assert len(spans) == 8
    spans.sort()
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start, "two stages held the slot at once"


def test_orchestration_costs_little_over_the_stage_alone(
    stack: Stack, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task of a stage in `cyborgs/full` against `python -m stages` in the same image, on a copy of the run.

    The lesser of both cycles' seconds on either side, and the mean over the stages: what else the machine does
    meanwhile only adds to them, and one slow start of a container is not what every stage costs.
    """
    (flow,) = [f for f in stack.flow_runs("cyborgs/full") if f.name.endswith("undisturbed")][-1:]
    tasks = request("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow.id]}}})
    took = {task["name"]: task["total_run_time"] for task in tasks if not task["name"].startswith("cyborgs-stage")}
    shutil.copytree(undisturbed, stack.storage / "alone", symlinks=True)
    run(["chown", "-R", f"{UID}:{UID}", str(stack.storage / "alone")])
    rows = []
    for stage in ("bootstrap-masks", "train", "evaluate"):
        alone = []
        for cycle in (0, 1):
            started = time.monotonic()
            stack.run_image(
                "python", "-P", "-m", "stages", stage, "--run", "/storage/alone", "--force", "--cycle", str(cycle)
            )
            alone.append(time.monotonic() - started)
        rows.append((stage, min(took[f"{stage} cycle {cycle}"] for cycle in (0, 1)), min(alone)))
    with capsys.disabled():
        print("\nstage                in the flow    alone   orchestration")
        for name, orchestrated, stage_alone in rows:
            print(f"{name:<20} {orchestrated:9.1f} s {stage_alone:6.1f} s {orchestrated - stage_alone:13.1f} s")
    assert fmean(orchestrated - stage_alone for _, orchestrated, stage_alone in rows) <= 8


def test_the_image_holds_no_secret_no_cache_and_no_tests(stack: Stack) -> None:
    image = os.environ["CYBORGS_IMAGE"]
    listed = stack.docker(
        "run", "--rm", "--user", "root", image, "sh", "-c",
        "find /etc/pip.conf /etc/ssl/build-ca.pem /root/.cache /opt/cyborgs/tests /opt/cyborgs/.git -type f; true",
    )  # fmt: skip
    assert listed == ""
    installed = stack.docker("run", "--rm", image, "sh", "-c", "/opt/venv/bin/pip freeze --exclude-editable").split()
    pinned = (ROOT / "constraints.txt").read_text().split()
    # CUDA's libraries are pinned by torch and faiss themselves, and are not there on every platform.
    free = ("pip==", "nvidia-", "cuda-", "triton==")
    assert [package for package in installed if package not in pinned and not package.startswith(free)] == []


HOOK = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("", 8000), Hook).serve_forever()
"""


def test_the_documented_web_hook_is_called_when_a_run_fails(stack: Stack) -> None:
    (block,) = read_blocks(ROOT / "docs" / "containers.md", "python")
    code = block.code
    assert "https://hooks.example.com/cyborgs" in code
    image = os.environ["CYBORGS_IMAGE"]
    hook = stack.docker("run", "--detach", "--network", PROJECT, image, "python", "-c", HOOK).strip()
    try:
        host = hook[:12]  # the name under which the network knows it
        stack.python(code.replace("https://hooks.example.com", f"http://{host}:8000"))
        failed = stack.finish(stack.start("cyborgs/full", config="demo", run="nobody", data=["/data/nowhere"]))
        assert failed.state == "Failed"
        wait_for(lambda: "no such folder" in stack.docker("logs", hook), "the call of the web hook", seconds=60)
        assert json.loads(stack.docker("logs", hook).splitlines()[0])["text"].startswith(
            "cyborgs nobody Failed: --data"
        )
    finally:
        stack.docker("rm", "--force", hook)

"""What a machine runs out of: one line with what to change; by the real error where it can be had here."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from schemas.errors import EXIT_BAD_INPUT, MachineError
from schemas.loading import load_config
from schemas.plan import Step
from schemas.stages import StageRequest
from stages.__main__ import main
from stages.execute import run_stage
from stages.mishaps import explain
from tests.pipeline import prepare

ROOT = Path(__file__).parents[2]
TRAIN, MASKS = Step("train", 0), Step("bootstrap-masks", 0)
BUS = (
    "DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit."
)
LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (TRAIN, torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), r"GPU.*numerics\.accumulation \(now 1\)"),
        (MASKS, torch.OutOfMemoryError("CUDA out of memory."), r"GPU.*masks\.images_per_group \(now 4\).*max_side"),
        (TRAIN, RuntimeError("CUDA error: out of memory"), r"the GPU has too little memory"),
        (TRAIN, MemoryError(), r"the machine has too little memory.*optimization\.batch_size \(now 4\)"),
        (TRAIN, RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), r"too little memory"),
        (TRAIN, OSError(errno.ENOMEM, "Cannot allocate memory"), r"the machine has too little memory"),
        (TRAIN, RuntimeError(BUS), r"shared memory \(/dev/shm\) is too small.*--shm-size=8g.*loader_workers=0"),
        (TRAIN, RuntimeError("unable to open shared memory object </torch_7> in read-write mode"), r"shared memory"),
        (TRAIN, RuntimeError("unable to allocate shared memory(shm) for file </t>: No space left"), r"shared memory"),
        (TRAIN, RuntimeError("DataLoader worker (pid 8) is killed by signal: Killed. "), r"data loader was killed.*=0"),
        (TRAIN, RuntimeError("DataLoader worker (pid(s) 8) exited unexpectedly"), r"data loader was killed"),
        (TRAIN, OSError(errno.EMFILE, "Too many open files"), r"too many open files.*ulimit -n"),
        (TRAIN, RuntimeError("received 0 items of ancdata"), r"too many open files"),
        (TRAIN, torch.AcceleratorError(LOST), r"GPU cannot be used any more \(CUDA error: an illegal memory access"),
        (TRAIN, RuntimeError("CUDA error: device-side assert triggered"), r"nvidia-smi.*placement\.device"),
        (TRAIN, OSError(errno.ENOSPC, "No space left on device", "/data/x"), r"no space left for /data/x: free some"),
        (TRAIN, OSError("Caught OSError\n[Errno 28] No space left on device"), r"no space left for .*run: free"),
        (TRAIN, OSError(errno.EIO, "Input/output error", "/data/x"), r"the disk under /data/x reports an error"),
    ],
)  # fmt: skip
def test_it_is_said_in_one_line(tmp_path: Path, tiny_config: Path, step: Step, error: Exception, said: str) -> None:
    line = explain(error, step, load_config(str(tiny_config)), tmp_path / "run")
    assert line is not None
    assert re.search(said, line), line
    assert "\n" not in line


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyError("No"), OSError(errno.ENOENT, "No such file"), RuntimeError("shape mismatch")]
)
def test_a_fault_of_the_program_stays_one(tmp_path: Path, tiny_config: Path, error: Exception) -> None:
    assert explain(error, TRAIN, load_config(str(tiny_config)), tmp_path) is None


def test_shared_memory_too_small_for_the_loaders(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, "placement.loader_workers=1")
    run_stage(StageRequest(run=str(url), stage="index-images"))
    small = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec"
    if subprocess.run(["unshare", "--mount", "sh", "-c", f"{small} true"], capture_output=True).returncode:
        pytest.skip("a small /dev/shm cannot be mounted here")
    stage = f"{sys.executable} -P -m stages warm-up --run {url}"
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{small} {stage}"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == EXIT_BAD_INPUT, ran.stderr
    assert ran.stderr.startswith("warm-up: shared memory (/dev/shm) is too small"), ran.stderr
    assert len(ran.stderr.splitlines()) == 1


LITTLE = """
import resource, sys
import stages.warm_up
from stages.__main__ import main
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 100 * 2**20,) * 2)
sys.exit(main(["warm-up", "--run", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_machine_with_little_memory(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs)
    run_stage(StageRequest(run=str(url), stage="index-images"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", LITTLE, str(url)], env=environment, capture_output=True, text=True)
    assert ran.returncode == EXIT_BAD_INPUT, ran.stderr
    assert "warm-up: the machine has too little memory: raise numerics.accumulation" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_mishap_ends_a_stage_with_its_line(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From within the stage to the error that every launcher shows."""
    from stages import index_images

    def fail(*_: object) -> None:
        raise MemoryError

    prepare(tmp_path / "run", tiny_config, photographs)
    monkeypatch.setattr(index_images, "examine", fail)
    with pytest.raises(MachineError, match="^index-images: the machine has too little memory.*same command") as caught:
        run_stage(StageRequest(run=str(tmp_path / "run"), stage="index-images"))
    assert caught.value.exit_code == EXIT_BAD_INPUT


def test_a_stage_by_hand_tells_of_a_placement_that_was_changed(
    tmp_path: Path, photographs: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cyborgs run` says it once, before its stages."""
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs)
    record = url / "run.json"
    record.write_text(record.read_text().replace('"keep_checkpoints": "all"', '"keep_checkpoints": "last:1"'))
    assert main(["index-images", "--run", str(url)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1
    assert "config.placement is not what was written (placement.keep_checkpoints 'all' -> 'last:1')" in said[0]
    assert main(["index-images", "--run", str(url), "--with-parent", str(os.getppid())]) == 0
    assert "warning" not in capsys.readouterr().err

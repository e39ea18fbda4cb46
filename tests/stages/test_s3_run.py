"""A whole run on S3, photographs on S3 too, against a real HTTP server and its faults."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import EXIT_PREEMPTED, PreemptedError, UnreachableError
from schemas.plan import Step, plan
from schemas.stages import StageRequest
from stages import heart
from stages.execute import run_stage
from storage import layout, s3_connection, s3_lease
from storage.artifacts import Standings, standing
from storage.checkpoints import decode_tensors
from storage.masks import MaskRow, create_mask_store, write_shard
from storage.run import Run, open_run
from storage.s3 import S3Store
from storage.store import open_store
from storage.verification import verify_run
from tests.object_server import ObjectServer, wait_until
from tests.pipeline import assert_same_masks, prepare, run_all


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path, photographs: Path) -> Path:
    """The same run on a local disk."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    prepare(root, tiny_config, photographs)
    run_all(root)
    return root


@pytest.fixture
def data(object_server: ObjectServer, bucket: str, photographs: Path) -> str:
    """The photographs, on S3."""
    for file in photographs.iterdir():
        object_server.put(bucket, f"photographs/{file.name}", file.read_bytes())
    return f"s3://{bucket}/photographs"


def assert_equals(url: str, undisturbed: Path) -> None:
    """Every tensor and every label map as in the undisturbed run, read from the bucket itself."""
    ours, theirs = Standings(open_run(url)), Standings(open_run(str(undisturbed))).all()
    for one, other in zip(ours.all(), theirs, strict=True):
        assert one.manifest is not None, one.step.name
        assert other.manifest is not None
        assert (one.key, one.manifest.content) == (other.key, other.manifest.content), one.step.name
        for name in (layout.MODEL, layout.TRAINING_STATE):
            if (undisturbed / str(other.folder) / name).exists():
                tensors = decode_tensors(ours.run.store.read(f"{one.folder}/{name}"))[0]
                expected = decode_tensors((undisturbed / str(other.folder) / name).read_bytes())[0]
                assert tensors.keys() == expected.keys()
                assert all(tensors[key].equal(expected[key]) for key in expected), one.step.name
        if one.step.stage == "bootstrap-masks":
            masks = f"{one.folder}/{layout.MASKS}"
            assert_same_masks(ours.run.store.fetch(masks), undisturbed / masks)
    left = [path for path in ours.run.store.list("") if f"/{layout.PARTIAL}/" in path or path.endswith(layout.LEASE)]
    assert left == [], "left over"


@pytest.mark.slow
@pytest.mark.many
def test_a_run_on_s3_under_503s_equals_the_one_on_a_disk(
    object_server: ObjectServer, bucket: str, data: str, tiny_config: Path, undisturbed: Path
) -> None:
    url = f"s3://{bucket}/runs/one"
    with object_server.busy(0.3):
        run = prepare(url, tiny_config, data)
        assert run_all(url) == [step.name for step in plan(run.config)]
        assert run_all(url) == [], "all was done"
    assert object_server.refused > 100
    assert_equals(url, undisturbed)
    assert [finding.damage for finding in verify_run(run)] == [()] * len(plan(run.config))
    assert run.store.size(layout.REPORT)
    assert any(path.startswith("logs/train-cycle-001/") for path in run.store.list(""))
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    keeping = [path for path in run.store.list("") if secret in run.store.read(path)]
    assert keeping == [], "a secret of the environment was written down"


def lose_the_server(monkeypatch: pytest.MonkeyPatch, server: ObjectServer, then: Callable[[], None]) -> list[float]:
    """Let it go away as a stage is about to write its model, log lines unsaved; holds when, once it has."""
    write, gone = S3Store.write, list[float]()

    def lose_and_write(store: S3Store, path: str, data: bytes) -> None:
        if path.endswith(layout.MODEL) and not gone:
            server.stop()
            gone.append(time.monotonic())
            then()
        write(store, path, data)

    # Beats are under way whenever the stage gives up.
    monkeypatch.setattr(heart, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(s3_lease, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(s3_lease, "STALE_SECONDS", 3.0)
    monkeypatch.setattr(s3_connection, "_LONGEST_PAUSE", 0.4)
    monkeypatch.setattr(S3Store, "write", lose_and_write)
    return gone


def test_a_stage_that_loses_the_server_stops_in_one_line_and_goes_on_later(
    object_server: ObjectServer, bucket: str, data: str, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One outage is waited for once: not again by its log, its sign of life and its lease, each in turn."""
    url = f"s3://{bucket}/run"
    run = prepare(url, tiny_config, data)
    run_stage(StageRequest(run=url, stage="index-images"))
    gone = lose_the_server(monkeypatch, object_server, then=lambda: None)
    model = f"{url}/{standing(run, 'warm-up').folder}/{layout.MODEL}"
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 4.0)
    try:
        with pytest.raises(UnreachableError, match=f"^{model}: no answer for .* the same command goes on") as caught:
            run_stage(StageRequest(run=url, stage="warm-up"))
        waited = time.monotonic() - gone[0]
    finally:
        object_server.start()
    assert "\n" not in str(caught.value)
    assert 4 < waited < 2 * 4
    assert run_stage(StageRequest(run=url, stage="warm-up")).computed


def test_a_stage_that_is_asked_to_stop_does_not_wait_for_a_lost_server(
    object_server: ObjectServer, bucket: str, data: str, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{bucket}/run"
    prepare(url, tiny_config, data)
    run_stage(StageRequest(run=url, stage="index-images"))
    gone = lose_the_server(monkeypatch, object_server, then=lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(s3_connection, "_HURRIED_SECONDS", 1.0)
    try:
        with pytest.raises(PreemptedError, match=f"^warm-up: stopped; {url}/.*/{layout.MODEL}: no answer for . s"):
            run_stage(StageRequest(run=url, stage="warm-up"))
        assert 1 < time.monotonic() - gone[0] < 20, "it waits for minutes where nobody asks"
    finally:
        object_server.start()


def test_masks_on_s3_are_opened_in_a_notebook(bucket: str, tmp_path: Path) -> None:
    """As docs/storage.md says; in a process of its own, since zarr leaves the connection open."""
    store = open_store(f"s3://{bucket}/run")
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = store.folder("masks.zarr")
    create_mask_store(path, rows=1, grid=(3, 4), rows_per_shard=16, attributes={})
    write_shard(path, 0, [MaskRow(labels, (24, 32), 12)])
    store.publish("masks.zarr")
    program = """
import os, sys, zarr
options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
print(zarr.open(sys.argv[1], mode="r", storage_options=options)["labels"][0].tolist())
"""
    command = [sys.executable, "-c", program, f"{store.url}/masks.zarr"]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert shown.strip() == str(labels.tolist())


KILLED = ("warm-up", "bootstrap-masks cycle 0", "train cycle 1", "evaluate cycle 1")
CUT_OFF = "train cycle 0"


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.timeout(1800)
def test_a_run_that_is_killed_and_whose_server_goes_away_for_20_seconds_ends_equal(
    object_server: ObjectServer, bucket: str, data: str, tiny_config: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Stages in processes of their own, the cache gone after each kill, as on another machine."""
    url = f"s3://{bucket}/run"
    run = prepare(url, tiny_config, data, "placement.checkpoint_every_minutes=0.00001")
    for step in plan(run.config):
        command = [sys.executable, "-P", "-m", "stages", step.stage, "--run", url]
        command += [] if step.cycle is None else ["--cycle", str(step.cycle)]
        for attempt in range(2 if step.name in KILLED else 1):
            cache, words = tmp_path / f"{step.name} {attempt}", tmp_path / f"{step.name} {attempt}.err"
            with words.open("w") as error:
                child = subprocess.Popen(command, env=os.environ | {"CYBORGS_CACHE": str(cache)}, stderr=error)
            if step.name in KILLED and attempt == 0:
                wait_until(lambda step=step: has_begun(run, step), 120)
                child.kill()
                assert child.wait() == -signal.SIGKILL
                assert standing(run, step.stage, step.cycle).manifest is None, "too late: this test shows nothing"
                continue
            if step.name == CUT_OFF:
                wait_until(lambda step=step: has_begun(run, step), 120)
                with object_server.gone(20):
                    assert child.poll() is None
            assert child.wait() == 0, words.read_text()
            assert (step.name == CUT_OFF) == ("no answer" in words.read_text())
            if attempt and step.stage != "evaluate":
                assert "going on from where it stopped" in words.read_text()
            if attempt and step.stage in ("warm-up", "train"):
                assert first_step(run, step) > 1, "it began anew"
    assert_equals(url, undisturbed)


def has_begun(run: Run, step: Step) -> bool:
    """Whether a step has saved something to go on from; of an evaluation, which saves nothing, that it is at work."""
    paths = run.store.list(layout.step_folder(step))
    if step.stage == "evaluate":
        return any(path.endswith(f"/{layout.LEASE}") for path in paths)
    return any(f"/{layout.PARTIAL}/" in path for path in paths)


def first_step(run: Run, step: Step) -> int:
    """The first step that the last attempt logged."""
    last = max(run.store.list(layout.log_folder(step)))
    return int(json.loads(run.store.read(last).splitlines()[0])["step"])


SHORT_LEASE = """
import sys
from storage import s3_lease
s3_lease.BEAT_SECONDS, s3_lease.STALE_SECONDS = 0.5, 4.0
from stages.__main__ import main
sys.exit(main(["warm-up", "--run", sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_stage_that_stood_still_past_its_lease_saves_nothing_and_ends_in_one_line(
    object_server: ObjectServer, bucket: str, data: str, photographs: Path, tiny_config: Path, tmp_path: Path
) -> None:
    """SIGSTOP, another process takes over and saves, SIGCONT: what the other has saved stays."""
    settings = ("schedule.epochs=8", "schedule.warmup_epochs=4", "placement.checkpoint_every_minutes=0.005")
    url, undisturbed = f"s3://{bucket}/run", tmp_path / "undisturbed"
    for place, source in ((url, data), (str(undisturbed), photographs)):
        prepare(place, tiny_config, source, *settings)
        run_stage(StageRequest(run=place, stage="index-images"))
    run_stage(StageRequest(run=str(undisturbed), stage="warm-up"))
    run = open_run(url)
    found = standing(run, "warm-up")
    state, lease = f"{found.folder}/{layout.PARTIAL}/state", f"{found.folder}/{layout.LEASE}"

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-P", "-c", SHORT_LEASE, url]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    first = start()
    second = None
    try:
        wait_until(lambda: run.store.size(state) is not None, 120)
        first.send_signal(signal.SIGSTOP)
        saved = run.store.read(state)
        second = start()
        wait_until(lambda: f"process {second.pid} " in run.store.read(lease).decode(), 120)
        wait_until(lambda: run.store.read(state) != saved, 120)
        second.send_signal(signal.SIGSTOP)
        saved = run.store.read(state)

        first.send_signal(signal.SIGCONT)
        words = first.communicate(timeout=120)[1].splitlines()
        assert first.returncode == EXIT_PREEMPTED, words
        # A connection that was open while it stood still may have timed out: that is told, and tried again.
        told = [line for line in words if "step" not in line and "no answer" not in line]
        assert told == [
            "warning: tracker tensorboard: it reads folders on a disk, and this run is not on one;"
            " the stage goes on without it",
            "warm-up: stopped; another process has taken the work over while this one stood still, and goes on with it",
        ]
        assert run.store.read(state) == saved, "an older state took the place of the other's"
        assert f"process {second.pid} " in run.store.read(lease).decode(), "the other's lease was given back"
        second.send_signal(signal.SIGCONT)
        assert second.wait(120) == 0
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()
    made, whole = standing(run, "warm-up").manifest, standing(open_run(str(undisturbed)), "warm-up").manifest
    assert made is not None and whole is not None and made.content == whole.content

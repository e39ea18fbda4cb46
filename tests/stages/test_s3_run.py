"""A whole run on S3, photographs on S3 too, against a real HTTP server and its faults."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from schemas.errors import UnreachableError
from schemas.plan import plan
from storage import layout, s3_connection
from storage.artifacts import Standings
from storage.checkpoints import decode_tensors
from storage.run import open_run
from storage.verification import verify_run
from tests.object_server import ObjectServer, wait_until
from tests.pipeline import prepare, run_all


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
            # As docs/storage.md shows it to people.
            options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "skip_instance_cache": True}
            opened = zarr.open(f"{url}/{one.folder}/{layout.MASKS}", mode="r", storage_options=options)
            expected_store = zarr.open(str(undisturbed / str(other.folder) / layout.MASKS), mode="r")
            np.testing.assert_array_equal(opened["labels"][:], expected_store["labels"][:])
    left = [path for path in ours.run.store.list("") if f"/{layout.PARTIAL}/" in path or path.endswith(layout.LEASE)]
    assert left == [], "left over"


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


def test_a_stage_that_loses_the_server_stops_in_one_line_and_goes_on_later(
    object_server: ObjectServer,
    bucket: str,
    data: str,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"s3://{bucket}/run"
    prepare(url, tiny_config, data)
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 0.5)
    object_server.stop()
    try:
        with pytest.raises(UnreachableError, match="no answer for .* the same command goes on") as caught:
            run_all(url)
    finally:
        object_server.start()
    assert "\n" not in str(caught.value)
    assert open_run(url).record.photographs == 18


@pytest.mark.slow
def test_a_run_that_is_killed_and_whose_server_goes_away_for_20_seconds_ends_equal(
    object_server: ObjectServer, bucket: str, data: str, tiny_config: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Every stage in a process of its own, killed once at work, with a cache of its own after each kill."""
    url = f"s3://{bucket}/run"
    run = prepare(url, tiny_config, data)
    for number, step in enumerate(plan(run.config)):
        command = [sys.executable, "-P", "-m", "stages", step.stage, "--run", url]
        command += [] if step.cycle is None else ["--cycle", str(step.cycle)]
        lease = f"{layout.step_folder(step)}/"
        for attempt in range(2):
            environment = os.environ | {"CYBORGS_CACHE": str(tmp_path / f"cache-{number}-{attempt}")}
            child = subprocess.Popen(command, env=environment)
            if attempt == 0:

                def working(child: "subprocess.Popen[bytes]" = child, lease: str = lease) -> bool:
                    found = run.store.list(lease.rstrip("/"))
                    return child.poll() is not None or any(path.endswith(f"/{layout.LEASE}") for path in found)

                wait_until(working, 120)
                if number % 2:
                    child.send_signal(signal.SIGKILL)
                    child.wait()
                    continue
                with object_server.gone(20):
                    pass
            assert child.wait() == 0, step.name
    assert_equals(url, undisturbed)

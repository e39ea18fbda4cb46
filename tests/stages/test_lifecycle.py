"""A finished run goes on: more epochs, other settings beside it, fewer checkpoints. Real stages in this process."""

import shutil
from pathlib import Path

import pytest

from cyborgs.optimization.schedules import learning_rate
from flows.fork import fork
from flows.prepare import prepare_run
from schemas.errors import DamagedArtifactError, RunError
from schemas.loading import change_config
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.execute import run_stage
from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import Standings, standing
from storage.garbage import find_garbage, remove
from storage.local import LocalStore
from storage.retention import restore_needed, thin_out
from storage.reuse import compare
from storage.run import Run, open_run
from tests.pipeline import assert_same_results, prepare, run_all
from tests.storage.samples import snapshot

EXTENDED = ["schedule.epochs=8", "schedule.extended_from=[6]"]
STEPS_PER_EPOCH = 4


@pytest.fixture
def url(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of a finished run: two cycles, to 6 epochs."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def _update(url: Path, *settings: str) -> Run:
    run = open_run(str(url))
    return prepare_run(str(url), change_config(run.config, settings), name="tiny", update=True)


def _states(run: Run) -> dict[str, str]:
    return {found.step.name: found.state for found in Standings(run).all()}


def test_an_extended_run_trains_the_epochs_that_are_new_and_no_other(
    url: Path, tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    before = {found.step.name: found for found in Standings(open_run(str(url))).all()}
    run = _update(url, *EXTENDED)
    assert run_all(url) == ["bootstrap-masks cycle 2", "train cycle 2", "evaluate cycle 2"]
    for name, found in before.items():
        assert Standings(run).input(name).key == found.key, name

    found = standing(run, "train", 2)
    assert found.key is not None
    logged = {line["step"]: line["learning_rate"] for line in read_metrics(run, found.step, found.key)}
    assert sorted(logged) == list(range(6 * STEPS_PER_EPOCH + 1, 8 * STEPS_PER_EPOCH + 1))
    for done, rate in logged.items():
        expected = learning_rate(done - 1, peak=0.001, steps=8 * STEPS_PER_EPOCH, warmup_steps=2, schedule="cosine")
        assert rate == pytest.approx(expected, rel=1e-4), "under the schedule of the longer run"

    at_once = tmp_path / "at once"
    prepare(at_once, tiny_config, photographs, *EXTENDED)
    run_all(at_once)
    assert_same_results(url, at_once)


def test_what_an_update_leaves_valid_and_why_the_rest_is_not(url: Path) -> None:
    before = open_run(str(url))
    after = _update(url, "train.temperature=0.2", "evaluate.images=4")
    verdicts = {verdict.name: verdict for verdict in compare(before, after)}
    assert [name for name, verdict in verdicts.items() if verdict.stays] == [
        "index-images",
        "warm-up",
        "bootstrap-masks cycle 0",
    ]
    assert verdicts["train cycle 0"].why == "train.temperature 0.1 -> 0.2"
    assert verdicts["evaluate cycle 0"].why == "evaluate.images 8 -> 4"
    assert verdicts["bootstrap-masks cycle 1"].why == "follows what is made anew"
    run_all(url)
    back = _update(url, "train.temperature=0.1", "evaluate.images=8")
    assert {verdict.why for verdict in compare(after, back)} == {"as it is", "made earlier with these very settings"}
    assert run_all(url) == []


def test_garbage_is_what_earlier_settings_left_and_what_is_under_way_is_none(url: Path) -> None:
    whole = snapshot(url)
    assert find_garbage(open_run(str(url))) == []
    run = _update(url, "evaluate.images=4")
    run_all(url)
    garbage = find_garbage(run)
    places = [entry.place for entry in garbage]
    gone = {path for path in whole if "evaluate" in path}
    assert {layout.artifact_of(path) for path in gone} - {None} == {place for place in places if "cycle-" in place[:6]}
    assert any("tensorboard" in path for path in gone) and any(path.endswith(".jsonl") for path in gone)
    assert {path for entry in garbage for path in entry.paths} == gone
    assert sum(entry.bytes for entry in garbage) == sum(len(whole[path]) for path in gone)
    with run.store.lease(f"{places[0]}/{layout.LEASE}"):
        assert [entry.place for entry in find_garbage(run)] == places[1:], "somebody is at work there"
    remove(run, find_garbage(run))
    assert set(_states(run).values()) == {"done"}
    assert not gone & set(run.store.list(""))
    assert run_all(url) == []


def test_what_may_still_become_todays_is_no_garbage(url: Path) -> None:
    """Masks of cycle 0 are gone, so the key of what is trained on them is not known: made again, it is the old one."""
    run = open_run(str(url))
    folder = standing(run, "bootstrap-masks", 0).folder
    run.store.delete(f"{folder}/{layout.MANIFEST}")
    assert find_garbage(run) == []
    assert run_all(url) == ["bootstrap-masks cycle 0"]


def test_a_cycle_that_is_no_more_goes_with_its_logs_and_its_link(url: Path) -> None:
    run = _update(url, "schedule.bootstrap_every_epochs=0")
    run_all(url)
    remove(run, find_garbage(run))
    assert not (url / "cycle-001").exists()
    assert (url / layout.masks_pointer(0) / "zarr.json").is_file()
    assert not (url / "logs" / "train-cycle-001").exists()
    assert set(_states(run).values()) == {"done"}


def test_checkpoints_that_no_stage_needs_go_and_come_back_equal(url: Path, tiny_run: Path) -> None:
    run = _update(url, "placement.keep_checkpoints=last:1")
    assert thin_out(run) == ["warm-up", "train cycle 0"]
    assert thin_out(run) == []
    assert set(_states(run).values()) == {"done"}, "what was made from them is still what it was"
    assert len(list(url.rglob(layout.MODEL))) == len(list(url.rglob(layout.TRAINING_STATE))) == 1
    assert restore_needed(run) == []

    # Masks of cycle 1 are wanted again: they are clustered from what train cycle 0 had reached.
    folder = standing(run, "bootstrap-masks", 1).folder
    run.store.delete(str(folder))
    with pytest.raises(RunError, match=r"train cycle 0 .*keep_checkpoints"):
        run_stage(StageRequest(run=str(url), stage="bootstrap-masks", cycle=1))
    assert restore_needed(run) == ["warm-up", "train cycle 0"]
    assert run_all(url) == ["warm-up", "train cycle 0", "bootstrap-masks cycle 1"]
    assert_same_results(url, tiny_run)


def test_a_checkpoint_that_is_still_needed_stays(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "run"
    run = prepare(url, tiny_config, photographs, "placement.keep_checkpoints=last:1")
    run_stage(StageRequest(run=str(url), stage="index-images"))
    run_stage(StageRequest(run=str(url), stage="warm-up"))
    assert thin_out(run) == []
    run_stage(StageRequest(run=str(url), stage="bootstrap-masks", cycle=0))
    assert thin_out(run) == [], "train cycle 0 has still to start from it"
    run_stage(StageRequest(run=str(url), stage="train", cycle=0))
    assert thin_out(run) == ["warm-up"]


def test_a_fork_has_what_stays_valid_and_leaves_its_origin_as_it_is(url: Path, tmp_path: Path) -> None:
    whole = snapshot(url)
    new = tmp_path / "fork"
    verdicts = {verdict.name: verdict for verdict in fork(str(url), str(new), ["train.temperature=0.2"])}
    assert snapshot(url) == whole
    assert [name for name, verdict in verdicts.items() if verdict.stays] == [
        "index-images",
        "warm-up",
        "bootstrap-masks cycle 0",
    ]
    assert verdicts["train cycle 0"].why == "train.temperature 0.1 -> 0.2"
    forked = open_run(str(new))
    assert forked.record.forked_from is not None and str(url) in forked.record.forked_from
    assert forked.record.data == open_run(str(url)).record.data
    computed = run_all(new)
    assert computed[0] == "train cycle 0" and "warm-up" not in computed


def test_a_fork_goes_on_where_it_stopped_and_copies_nothing_damaged(url: Path, tmp_path: Path) -> None:
    new = tmp_path / "fork"
    damaged = url / str(standing(open_run(str(url)), "train", 0).folder) / layout.MODEL
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedArtifactError, match="is damaged: `cyborgs verify"):
        fork(str(url), str(new), [])
    assert _states(open_run(str(new)))["bootstrap-masks cycle 0"] == "done"
    damaged.write_bytes(data)
    assert all(verdict.stays for verdict in fork(str(url), str(new), []))
    assert run_all(new) == []
    for same in (url, tmp_path / "fork" / ".." / url.name):
        with pytest.raises(RunError, match=r"is the run itself; name another place, or use .*--update`$"):
            fork(str(url), str(same), ["train.temperature=0.3"])
    with pytest.raises(RunError, match=rf"a run at {new} already, with other settings: train.temperature 0.1 -> 0.3; "):
        fork(str(url), str(new), ["train.temperature=0.3"])


def test_a_fork_that_does_not_fit_is_refused_before_anything_is_written(
    url: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "fork"
    monkeypatch.setattr(LocalStore, "free_bytes", lambda _: 1000)
    with pytest.raises(RunError, match=rf"run {new}: .*1 kB are free: free some, choose another place"):
        fork(str(url), str(new), [])
    assert not new.exists()


def test_a_fork_of_a_thinned_run_is_thinned_too(url: Path, tmp_path: Path) -> None:
    thin_out(_update(url, "placement.keep_checkpoints=last:1"))
    new = tmp_path / "fork"
    assert all(verdict.stays for verdict in fork(str(url), str(new), []))
    found = Standings(open_run(str(new))).of(find_step(open_run(str(new)).config, "train", 0))
    assert found.thinned
    assert len(list(new.rglob(layout.MODEL))) == 1


def test_a_run_moves_to_s3_and_back_by_forks(url: Path, tmp_path: Path, bucket: str) -> None:
    away, back = f"s3://{bucket}/runs/away", tmp_path / "back"
    assert all(verdict.stays for verdict in fork(str(url), away, []))
    remote = open_run(away)
    assert find_garbage(remote) == []
    remote.store.write("cycle-000/evaluate/0123456789abcdef0123/metrics.json", b"{}")
    assert [entry.place for entry in find_garbage(remote)] == ["cycle-000/evaluate/0123456789abcdef0123"]
    remove(remote, find_garbage(remote))
    assert find_garbage(remote) == []
    assert all(verdict.stays for verdict in fork(away, str(back), []))
    assert_same_results(url, back)

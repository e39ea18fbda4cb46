"""What other commands do to an artifact while it is read, and what happens to files between write and commit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError, RunError
from schemas.plan import find_step
from storage import layout
from storage.artifacts import Standings, commit_artifact, load_artifact, retract, standing
from storage.local import LocalStore
from storage.provenance import provenance
from storage.retention import thin_out
from storage.run import Run
from storage.verification import verify_run
from tests.storage.samples import commit, make_run, small_config


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two cycles, done; the first one's checkpoint is to be let go."""
    run = make_run(tmp_path / "run", small_config(placement={"keep_checkpoints": "last:1"}))
    for found in Standings(run).all():
        commit(run, found.step.stage, found.step.cycle, content=f"c {found.step.name}")
    return run


def once_before(
    monkeypatch: pytest.MonkeyPatch, method: str, wanted: Callable[[str], bool], happens: Callable[[], object]
) -> None:
    """Let something happen right before the store is first asked for such a path."""
    original, done = getattr(LocalStore, method), []

    def asked(self: LocalStore, path: str) -> object:
        if wanted(path) and not done:
            done.append(path)
            happens()
        return original(self, path)

    monkeypatch.setattr(LocalStore, method, asked)


def checkpoint(run: Run) -> str:
    """Give train cycle 0 the file that the policy lets go; its path."""
    found = standing(run, "train", 0)
    retract(run, found)
    run.store.write(f"{found.folder}/{layout.MODEL}", b"weights")
    commit(run, "train", 0, content="c train cycle 0")
    return f"{found.folder}/{layout.MODEL}"


def test_a_checkpoint_that_is_let_go_during_verify_is_no_damage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(run)
    once_before(monkeypatch, "read", lambda path: path == model, lambda: thin_out(run))
    assert [finding.damage for finding in verify_run(run) if finding.damage] == []
    assert run.store.size(model) is None, "nothing was let go: this test shows nothing"
    assert standing(run, "train", 0).state == "done"


def test_an_artifact_that_is_taken_back_during_verify_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(run)
    once_before(monkeypatch, "read", lambda path: path == model, lambda: retract(run, standing(run, "train", 0)))
    assert "train cycle 0" not in [finding.name for finding in verify_run(run)]


def test_a_missing_file_is_still_damage(run: Run) -> None:
    run.store.delete(checkpoint(run))
    assert [f.name for f in verify_run(run) if f.damage] == [standing(run, "train", 0).step.name]
    assert standing(run, "train", 0).manifest is None


def test_a_note_of_what_was_let_go_counts_whatever_has_become_of_it(run: Run) -> None:
    """A byte of it that changed must not cost the checkpoint's step, which would be trained again."""
    model = checkpoint(run)
    assert "train cycle 0" in thin_out(run)
    run.store.write(f"{model.rpartition('/')[0]}/{layout.THINNED}", b"\x00")
    assert [finding.damage for finding in verify_run(run) if finding.damage] == []
    assert standing(run, "train", 0).thinned


def test_an_artifact_that_is_made_anew_while_it_is_read_keeps_its_manifest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = standing(run, "train", 0)

    def make_anew() -> None:
        retract(run, found)
        commit(run, "train", 0, content="c train cycle 0", data=b"others")

    once_before(monkeypatch, "digests", lambda path: path == found.folder, make_anew)
    with pytest.raises(RunError, match="was changed by another command while it was read"):
        load_artifact(run, found)
    assert standing(run, "train", 0).state == "done"


def test_what_changed_between_write_and_commit_is_not_committed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    step = find_step(run.config, "index-images", None)
    folder = layout.artifact_folder(step, "k")
    run.store.write(f"{folder}/{layout.MODEL}", b"weights")

    def commit_it(written: dict[str, str]) -> None:
        commit_artifact(
            run, step, key="k", parts={}, content="c", summary={}, made_by=provenance(), written=written
        )  # fmt: skip

    for wrong in ({layout.MODEL: digest_bytes(b"Weights")}, {"checkpoints/epoch-1": digest_bytes(b"weights")}):
        with pytest.raises(DamagedArtifactError, match="changed after it was written: give the same command again"):
            commit_it(wrong)
        assert run.store.size(f"{folder}/{layout.MANIFEST}") is None
    commit_it({layout.MODEL: digest_bytes(b"weights")})
    assert run.store.size(f"{folder}/{layout.MANIFEST}") is not None


def test_what_may_not_be_read_is_told_in_one_line(run: Run) -> None:
    found = standing(run, "train", 0)
    manifest = Path(run.store.url, str(found.folder), layout.MANIFEST)
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(RunError, match=r"manifest\.json cannot be read: Is a directory") as caught:
        standing(run, "train", 0)
    assert "\n" not in str(caught.value)

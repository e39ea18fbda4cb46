"""A stage that stood still for so long that another process took its work over: it leaves what is saved alone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import PreemptedError
from schemas.stages import StageRequest
from stages import execute
from stages.execute import run_stage
from storage import layout
from storage.artifacts import Standings
from storage.local import LocalStore
from storage.run import open_run
from tests.pipeline import prepare, run_all

TRAIN = "train cycle 0"
OFTEN = "placement.checkpoint_every_minutes=0.00001"


@pytest.fixture
def untrained(tmp_path: Path, photographs: Path, tiny_config: Path) -> Path:
    """A run whose training has yet to begin, which saves after every step."""
    prepare(tmp_path / "run", tiny_config, photographs, "schedule.epochs=4", OFTEN)
    for name, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0)):
        run_stage(StageRequest(run=str(tmp_path / "run"), stage=name, cycle=cycle))  # type: ignore[arg-type]
    return tmp_path / "run"


def test_it_saves_nothing(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = LocalStore.lease

    @contextmanager
    def taken_over(store: LocalStore, path: str, **options: Any) -> Iterator[Callable[[], bool]]:
        lost: Callable[[], None] | None = options.pop("lost", None)
        with lease(store, path, **options) as held:
            if lost is not None:
                lost()
            yield held

    found = Standings(open_run(str(untrained))).input(TRAIN)
    state = untrained / str(found.folder) / layout.PARTIAL / "state"
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "lease", taken_over)
        with pytest.raises(PreemptedError, match="another process has taken the work over"):
            run_stage(StageRequest(run=str(untrained), stage="train", cycle=0))
    assert not state.exists(), "an older state would have taken the place of the other's"
    assert run_all(untrained) == [TRAIN, "evaluate cycle 0"]


def test_it_asks_before_it_saves_and_does_not_wait_to_be_told(
    untrained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After SIGCONT the next save may be due before the thread that keeps the lease has looked at it."""
    lease = LocalStore.lease

    @contextmanager
    def lost_unheard(store: LocalStore, path: str, **options: Any) -> Iterator[Callable[[], bool]]:
        with lease(store, path, **options):
            yield lambda: not path.endswith(layout.LEASE)

    found = Standings(open_run(str(untrained))).input(TRAIN)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "lease", lost_unheard)
        with pytest.raises(PreemptedError, match=f"^{TRAIN}: stopped; another process has taken the work over"):
            run_stage(StageRequest(run=str(untrained), stage="train", cycle=0))
    assert open_run(str(untrained)).store.list(str(found.folder)) == []


def test_the_log_is_on_the_disk_before_the_manifest(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the commit may not take the last lines: nobody would compute them again."""
    prepare(tmp_path / "run", tiny_config, photographs)
    run_stage(StageRequest(run=str(tmp_path / "run"), stage="index-images"))
    synced, sync = dict[str, int](), os.fsync

    def remember(descriptor: int) -> None:
        synced[str(Path(f"/proc/self/fd/{descriptor}").readlink())] = os.fstat(descriptor).st_size
        sync(descriptor)

    def commit(*_: object, **__: object) -> None:
        logs = list((tmp_path / "run" / "logs" / "warm-up").glob("*.jsonl"))
        assert logs, "nothing was logged: this test shows nothing"
        assert {str(path): synced.get(str(path)) for path in logs} == {str(path): path.stat().st_size for path in logs}
        raise PreemptedError("seen")

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(execute, "commit_artifact", commit)
    with pytest.raises(PreemptedError, match="seen"):
        run_stage(StageRequest(run=str(tmp_path / "run"), stage="warm-up"))

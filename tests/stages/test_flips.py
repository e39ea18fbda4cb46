"""Random bytes anywhere in a run changed, one by one: found before they are used, or nothing that is used changes."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import DamagedArtifactError, PreemptedError
from schemas.stages import StageName, StageRequest
from stages import index_images
from stages.execute import run_stage
from stages.interruption import StopRequest
from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import Standings, load_artifact, standing
from storage.run import check_placement, open_run
from storage.verification import verify_run

MANY = (pytest.mark.slow, pytest.mark.many)


def linked(source: Path, target: Path) -> Path:
    """A copy that costs no space; a flip puts another file in place and leaves the source alone."""
    return Path(shutil.copytree(source, target, symlinks=True, copy_function=os.link))


def flip(path: Path, chance: random.Random) -> str:
    """Change one byte of a file, or nothing of an empty one; says which."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= chance.randrange(1, 256)
    path.unlink()
    path.write_bytes(data)
    return f"{path}: byte {at} of {len(data)} -> {data[at]}"


def choose(files: list[Path], chance: random.Random) -> Path:
    """Half of the time any file, else any byte."""
    if chance.random() < 0.5:
        return chance.choice(files)
    return chance.choices(files, [path.stat().st_size for path in files])[0]


def restore(source: Path, url: Path) -> None:
    """Take back the flip and what it led to."""
    shutil.rmtree(url)
    linked(source, url)


def metrics(url: Path, name: str) -> list[dict[str, object]]:
    found = Standings(open_run(str(url))).input(name)
    return read_metrics(open_run(str(url)), found.step, str(found.key))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=MANY) for seed in range(1, 10))])
def test_a_flip_in_a_finished_run_is_found(tmp_path: Path, undisturbed: Path, seed: int) -> None:
    """Twenty of each seed, by `cyborgs verify` and by whoever reads the file, in turn."""
    chance = random.Random(f"flips {seed}")
    url = linked(undisturbed, tmp_path / "run")
    record = open_run(str(url)).record
    for trial in range(20):
        file = choose([p for p in url.rglob("*") if p.is_file() and p.stat().st_size], chance)
        name = file.relative_to(url).as_posix()
        told = flip(file, chance)
        if name == layout.RUN_RECORD:
            run = open_run(str(url))
            assert run.record == record or check_placement(run) is not None, told
        elif name.startswith(f"{layout.RECORD_COPIES}/"):
            assert open_run(str(url)).record == record, told
            assert [f.folder for f in verify_run(open_run(str(url))) if f.harmless] == [name], told
        elif name.startswith("logs/"):
            for step in ("warm-up", "train cycle 0"):
                whole = metrics(undisturbed, step)
                assert all(line in whole for line in metrics(url, step)), told
        elif name == layout.REPORT or trial % 2:
            findings = [finding for finding in verify_run(open_run(str(url))) if finding.damage or finding.harmless]
            assert [f.folder for f in findings if name.startswith(f.folder)], told
            assert any(
                file.name in line or name in line for f in findings for line in (*f.damage, *f.harmless, f.folder)
            ), told
        else:
            _assert_found_by_its_reader(url, file, told)
        restore(undisturbed, url)


def _assert_found_by_its_reader(url: Path, file: Path, told: str) -> None:
    run = open_run(str(url))
    before = next(found for found in Standings(run).all() if str(file).startswith(f"{url}/{found.folder}/"))
    if before.state == "done":
        if file.name == layout.MANIFEST:  # of provenance only, which is told and not used
            assert before.manifest is not None and not before.manifest.is_whole, told
            return
        with pytest.raises(DamagedArtifactError, match=f"{file.name} is damaged; {before.step.name} is pending now"):
            load_artifact(run, before)
    after = Standings(open_run(str(url))).input(before.step.name)
    assert after.state == "pending", told


def stop_after(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the stage to stop when it has looked so many times whether somebody did."""
    left = [looks]

    def asked(_: StopRequest) -> bool:
        left[0] -= 1
        return left[0] < 0

    monkeypatch.setattr(StopRequest, "asked", property(asked))


Interrupted = Callable[[StageName, int | None, int], Path]


@pytest.fixture
def interrupted(
    tmp_path: Path, undisturbed: Path, tiny_config: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> Interrupted:
    """A run that was stopped within a stage, what comes before it done."""

    def make(stage: StageName, cycle: int | None, looks: int) -> Path:
        url = linked(undisturbed, tmp_path / "interrupted")
        monkeypatch.setattr(index_images, "CHUNK", 6)
        shutil.rmtree(url / str(standing(open_run(str(url)), stage, cycle).folder))
        with monkeypatch.context() as patch, pytest.raises(PreemptedError):
            stop_after(looks, patch)
            run_stage(StageRequest(run=str(url), stage=stage, cycle=cycle))
        assert standing(open_run(str(url)), stage, cycle).state == "partial"
        return url

    return make


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("flips", [2, pytest.param(25, marks=MANY)])
@pytest.mark.parametrize(
    ("stage", "cycle", "looks"),
    [("index-images", None, 14), ("warm-up", None, 2), ("bootstrap-masks", 0, 5), ("train", 0, 23)],
)
def test_a_flip_in_what_an_interrupted_stage_left(
    interrupted: Interrupted,
    tmp_path: Path,
    undisturbed: Path,
    stage: StageName,
    cycle: int | None,
    looks: int,
    flips: int,
) -> None:
    """All that the stage wrote so far: saved states, rows, markers, shards, checkpoints kept within a segment."""
    chance = random.Random(f"{stage} {flips}")
    source = interrupted(stage, cycle, looks)
    whole = standing(open_run(str(undisturbed)), stage, cycle).manifest
    assert whole is not None
    for _ in range(flips):
        url = linked(source, tmp_path / "run")
        folder = url / str(standing(open_run(str(url)), stage, cycle).folder)
        told = flip(choose([p for p in folder.rglob("*") if p.is_file() and p.stat().st_size], chance), chance)
        request = StageRequest(run=str(url), stage=stage, cycle=cycle)
        try:
            run_stage(request)
        except DamagedArtifactError as error:
            assert "give the same command again" in str(error), told
            run_stage(request)
        run = open_run(str(url))
        made = standing(run, stage, cycle).manifest
        assert made is not None and made.content == whole.content, told
        assert {f.path: f.digest for f in made.files} == {f.path: f.digest for f in whole.files}, told
        assert [finding.damage for finding in verify_run(run) if finding.damage] == [], told
        shutil.rmtree(url)

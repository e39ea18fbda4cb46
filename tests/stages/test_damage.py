"""Files of a run that are no longer what they were: found, named, and made again."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import main
from schemas.digests import seal
from schemas.errors import DamagedArtifactError
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage import layout
from storage.artifacts import Standings, load_artifact
from storage.run import open_run
from storage.verification import verify_run
from tests.pipeline import assert_same_masks, prepare

MASKS = "bootstrap-masks cycle 0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run as far as its first masks. Tests work on copies."""
    url = tmp_path_factory.mktemp("run") / "whole"
    prepare(url, tiny_config, photographs)
    _run_as_far_as_masks(url)
    return url


@pytest.fixture
def url(tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))


def _run_as_far_as_masks(url: Path) -> list[str]:
    requests = (
        StageRequest(run=str(url), stage="index-images"),
        StageRequest(run=str(url), stage="warm-up"),
        StageRequest(run=str(url), stage="bootstrap-masks", cycle=0),
    )
    return [result.name for result in map(run_stage, requests) if result.computed]


def _folder(url: Path, name: str) -> Path:
    return url / str(Standings(open_run(str(url))).input(name).folder)


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_what_is_whole_is_said_to_be(url: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(url)]) == 0
    out = capsys.readouterr().out
    assert "3 whole, 0 damaged" in out
    assert _run_as_far_as_masks(url) == []


@pytest.mark.parametrize("damage", [_flip_a_bit, _cut_short, Path.unlink], ids=["bit", "cut", "gone"])
@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("index-images", layout.PHOTOGRAPHS),
        ("warm-up", layout.MODEL),
        ("warm-up", layout.TRAINING_STATE),
        (MASKS, f"{layout.MASKS}/labels/c/1/0/0"),
        (MASKS, f"{layout.MASKS}/clusters/c/0"),
    ],
)
def test_damage_is_named_and_repaired(
    whole: Path, url: Path, capsys: pytest.CaptureFixture[str], step: str, file: str, damage: Callable[[Path], None]
) -> None:
    damage(_folder(url, step) / file)
    assert main(["verify", str(url)]) == 1
    out = capsys.readouterr().out
    assert "2 whole, 1 damaged" in out
    assert [line.split()[0] for line in out.splitlines() if f" {step} " in line] == ["damaged"]
    assert f"{file}: " in out
    if file.startswith(layout.MASKS):
        assert re.search(r"rows? 16" if "labels" in file else r"rows? \d", out), out
    assert _run_as_far_as_masks(url) == [step]
    assert main(["verify", str(url)]) == 0
    assert_same_masks(_folder(whole, MASKS) / layout.MASKS, _folder(url, MASKS) / layout.MASKS)


def test_of_half_made_masks_the_damaged_shard_alone_is_made_again(whole: Path, url: Path) -> None:
    """As a kill right before the commit leaves them: both shards finished and marked."""
    masks = _folder(url, MASKS)
    (masks / layout.MANIFEST).unlink()
    for first in (0, 16):
        open_run(str(url)).store.write(
            f"{masks.relative_to(url)}/{layout.PARTIAL}/shard-{first:09d}", seal(f"shard-{first:09d}".encode())
        )
    files = {number: masks / layout.MASKS / f"labels/c/{number}/0/0" for number in (0, 1)}
    made = {number: file.stat().st_mtime_ns for number, file in files.items()}
    _flip_a_bit(files[0])
    with pytest.raises(DamagedArtifactError, match=r"rows? \d+.*; give the same command again"):
        _run_as_far_as_masks(url)
    assert [path.name for path in (masks / layout.PARTIAL).iterdir()] == ["shard-000000016"]
    assert _run_as_far_as_masks(url) == [MASKS]
    assert_same_masks(_folder(whole, MASKS) / layout.MASKS, masks / layout.MASKS)
    assert files[1].stat().st_mtime_ns == made[1], "a whole shard was made again"
    assert files[0].stat().st_mtime_ns != made[0]


@pytest.mark.parametrize("file", ["labels/c/1/0/0", "clusters/c/0"])
def test_whoever_reads_damaged_masks_is_told_the_row(url: Path, file: str) -> None:
    _flip_a_bit(_folder(url, MASKS) / layout.MASKS / file)
    run = open_run(str(url))
    with pytest.raises(DamagedArtifactError, match=rf"{file} is damaged; {MASKS} is pending now \(rows? \d+"):
        load_artifact(run, Standings(run).input(MASKS))


def test_a_damaged_manifest_is_named(url: Path) -> None:
    _flip_a_bit(_folder(url, "warm-up") / layout.MANIFEST)
    damaged = [finding for finding in verify_run(open_run(str(url))) if finding.damage]
    assert [finding.folder.split("/")[0] for finding in damaged] == ["warm-up"]
    assert damaged[0].damage[0].startswith(layout.MANIFEST)
    assert _run_as_far_as_masks(url) == ["warm-up"]


@pytest.mark.parametrize("file", [layout.RUN_RECORD, layout.record_copy(0)])
def test_verify_names_and_mends_a_damaged_record_and_its_copy(
    url: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    whole = (url / file).read_bytes()
    _flip_a_bit(url / file)
    assert main(["verify", str(url)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "changed" and file in lines[0]
    assert "restored from history/run-00000.json" in lines[1] or "its content has changed; it is made again" in lines[1]
    assert (url / file).read_bytes() == whole
    assert main(["verify", str(url)]) == 0


def test_artifacts_of_earlier_settings_are_looked_at_too(url: Path, photographs: Path, tiny_config: Path) -> None:
    before = _folder(url, MASKS)
    _flip_a_bit(before / layout.MASKS / "labels/c/0/0/0")
    assert [finding.folder for finding in verify_run(open_run(str(url))) if finding.damage] == [
        before.relative_to(url).as_posix()
    ]

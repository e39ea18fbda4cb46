"""`cyborgs doctor`: planted faults are found, and only those."""

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from cli.main import main
from schemas.errors import DataError
from stages.doctor import Finding, examine
from stages.duplicates import difference_hash, find_copies, fingerprints
from storage.demo_tiles import demo_tiles_folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten photographs to train on and five to measure, all different: tiles of those inside scikit-image."""
    tiles = sorted(demo_tiles_folder().iterdir())
    for folder, chosen in (("mine", tiles[0:40:4]), ("measured", tiles[2:22:4])):
        (tmp_path / folder).mkdir()
        for number, path in enumerate(chosen):
            with Image.open(path) as image:
                image.save(tmp_path / folder / f"{folder}-{number}.jpg", quality=92)
    return tmp_path


def bad(folders: Path) -> list[Finding]:
    found = list(examine(str(folders / "mine"), str(folders / "measured")))
    return [each for each in found if each.state == "bad"]


def test_a_clean_folder_has_no_fault(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert bad(folders) == []


def test_planted_faults_are_found(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    whole = (folders / "mine" / "mine-0.jpg").read_bytes()
    (folders / "mine" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folders / "mine" / "mine-1.jpg", folders / "mine" / "again.jpg")
    shutil.copy(folders / "measured" / "measured-3.jpg", folders / "mine" / "leak.jpg")
    found = bad(folders)
    assert [each.what.split(":")[0] for each in found] == ["broken", "duplicate", "leaked"]
    assert "cut.jpg" in found[0].what
    assert "again.jpg" in found[1].what and "mine-1.jpg" in found[1].what
    assert "leak.jpg" in found[2].what and "measured-3.jpg" in found[2].what
    assert all(each.advice for each in found)
    assert main(["doctor", "--data", str(folders / "mine"), "--against", str(folders / "measured")]) == 1
    text = capsys.readouterr().out
    for part in ("Python 3", "torch 2", "faiss", "shared memory", "disk for runs", "prefect 3", "cut.jpg", "leak.jpg"):
        assert part in text, part


@pytest.mark.parametrize("change", ["smaller", "encoded again", "brighter"])
def test_copies_that_were_edited_are_found(folders: Path, change: str) -> None:
    with Image.open(folders / "measured" / "measured-3.jpg") as image:
        if change == "smaller":
            copy = image.resize((image.width * 6 // 10, image.height * 6 // 10), Image.Resampling.BICUBIC)
        else:
            copy = ImageEnhance.Brightness(image).enhance(1.15) if change == "brighter" else image.copy()
    copy.save(folders / "mine" / "leak.jpg", quality=60)
    own, _ = fingerprints(sorted((folders / "mine").iterdir()))
    measured, _ = fingerprints(sorted((folders / "measured").iterdir()))
    pairs = [(one.path.name, two.path.name) for one, two in find_copies(own, measured)]
    assert pairs == [("leak.jpg", "measured-3.jpg")]


def test_plain_pictures_are_copies_only_byte_by_byte(tmp_path: Path) -> None:
    """Every sky has the same hash, which says nothing."""
    for name, colour in (("a", "skyblue"), ("b", "navy"), ("c", "skyblue")):
        Image.new("RGB", (64, 48), colour).save(tmp_path / f"{name}.png")
    assert not difference_hash(Image.new("RGB", (64, 48), "navy")).any()
    own, broken = fingerprints(sorted(tmp_path.iterdir()))
    assert broken == []
    assert [(one.path.name, two.path.name) for one, two in find_copies(own)] == [("a.png", "c.png")]


def test_each_pair_once_also_beyond_a_chunk(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.duplicates._CHUNK", 3)
    for number in (1, 8):
        shutil.copy(folders / "mine" / f"mine-{number}.jpg", folders / "mine" / f"z{number}.jpg")
    own, _ = fingerprints(sorted((folders / "mine").iterdir()))
    pairs = [(one.path.name, two.path.name) for one, two in find_copies(own)]
    assert sorted(pairs) == [("mine-1.jpg", "z1.jpg"), ("mine-8.jpg", "z8.jpg")]


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (found,) = (each for each in examine() if "Prefect server" in each.what)
    assert found.state == "bad"
    assert "cyborgs serve" in found.advice


def test_folders_that_are_not_there() -> None:
    with pytest.raises(DataError, match="no such folder"):
        list(examine("nowhere"))
    with pytest.raises(DataError, match="say with --data"):
        list(examine(None, "."))

"""`cyborgs doctor`: planted faults are found, and only those."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cli.main import main
from schemas.errors import DataError
from stages.doctor import Finding, examine
from stages.duplicates import NEAR, Fingerprint, difference_hash, edited_copies, fingerprints, same_files
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


def names(pairs: Iterable[Sequence[Fingerprint]]) -> list[tuple[str, ...]]:
    return [tuple(each.path.name for each in pair) for pair in pairs]


def bad(folders: Path) -> list[Finding]:
    found = list(examine([str(folders / "mine")], [str(folders / "measured")]))
    return [each for each in found if each.state == "bad"]


def test_a_clean_folder_has_no_fault(folders: Path) -> None:
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
    assert names(edited_copies(own, measured)) == [("leak.jpg", "measured-3.jpg")]
    assert [each.what.split(":")[0] for each in bad(folders)] == ["leaked"]


def test_plain_pictures_are_copies_only_byte_by_byte(tmp_path: Path) -> None:
    """Every sky has the same hash, which says nothing."""
    for name, colour in (("a", "skyblue"), ("b", "navy"), ("c", "skyblue")):
        Image.new("RGB", (64, 48), colour).save(tmp_path / f"{name}.png")
    assert not difference_hash(Image.new("RGB", (64, 48), "navy")).any()
    own, broken = fingerprints(sorted(tmp_path.iterdir()))
    assert broken == []
    assert names(same_files(own)) == [("a.png", "c.png")]
    assert names(edited_copies(own)) == []


def test_each_pair_once_also_beyond_a_block(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.duplicates._ROWS", 3)
    monkeypatch.setattr("stages.duplicates._COLUMNS", 5)
    for number in (1, 8):
        with Image.open(folders / "mine" / f"mine-{number}.jpg") as image:
            image.save(folders / "mine" / f"z{number}.jpg", quality=70)
    own, _ = fingerprints(sorted((folders / "mine").iterdir()))
    assert sorted(names(edited_copies(own))) == [("mine-1.jpg", "z1.jpg"), ("mine-8.jpg", "z8.jpg")]
    assert sorted(names(edited_copies(own[::-1]))) == [("z1.jpg", "mine-1.jpg"), ("z8.jpg", "mine-8.jpg")]
    found = [each for each in examine([str(folders / "mine")]) if each.what.startswith("look-alike")]
    assert [each.state for each in found] == ["note", "note"], "a frame of a film is no fault"


def test_equal_hashes_of_unlike_pictures_are_no_copies(tmp_path: Path) -> None:
    """The hash sees only what grows brighter to the right, which is alike here; from top to bottom they differ."""
    random = np.random.default_rng(0)
    steps = random.integers(-3, 4, (16, 17)).cumsum(axis=1)
    for name, rows in (("a", np.linspace(0, 200, 16)), ("b", np.linspace(200, 0, 16))):
        picture = (rows[:, None] + steps - steps.min()).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).resize((17 * 16, 16 * 16), Image.Resampling.NEAREST).save(tmp_path / f"{name}.png")
    own, _ = fingerprints(sorted(tmp_path.iterdir()))
    assert np.bitwise_count(own[0].bits ^ own[1].bits).sum() <= NEAR
    assert names(edited_copies(own)) == []


def test_thousands_of_one_file_are_one_finding(folders: Path) -> None:
    """As of a site that answers with "image unavailable"."""
    for number in range(2000):
        os.link(folders / "mine" / "mine-0.jpg", folders / "mine" / f"copy-{number}.jpg")
    found = [each for each in examine([str(folders / "mine")]) if each.state == "bad"]
    assert [each.what.split(" and ")[-1] for each in found] == ["1999 more"]


def test_several_folders_are_looked_through_and_against_each_other(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = folders / "more"
    more.mkdir()
    shutil.copy(folders / "mine" / "mine-1.jpg", more / "again.jpg")
    shutil.copy(folders / "measured" / "measured-2.jpg", more / "leak.jpg")
    arguments = ["doctor", "--data", str(folders / "mine"), str(more), "--against", str(folders / "measured")]
    assert main(arguments) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bad")]
    assert len(found) == 2
    assert "mine-1.jpg" in found[0] and "again.jpg" in found[0]
    assert "leak.jpg" in found[1] and "measured-2.jpg" in found[1]


def test_a_torch_that_does_not_import_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = list(examine())
    assert [each.what.split(":")[0] for each in found if each.state == "bad"] == ["torch does not import"]
    assert any("shared memory" in each.what for each in found)


def test_a_server_that_does_not_answer() -> None:
    (found,) = (each for each in examine(server="http://127.0.0.1:9/api") if "Prefect server" in each.what)
    assert found.state == "bad"
    assert "cyborgs serve" in found.advice


def test_folders_that_are_not_there() -> None:
    with pytest.raises(DataError, match="no such folder"):
        list(examine(["nowhere"]))
    with pytest.raises(DataError, match="say with --data"):
        list(examine([], ["."]))

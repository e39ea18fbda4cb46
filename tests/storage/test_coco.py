"""COCO json files as lists of photographs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataError
from storage.coco import annotated_photographs
from storage.photographs import list_candidates, source_folder
from storage.sources import LocalFolder
from tests.storage.samples import make_photographs


def annotations(path: Path, images: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return path


def images(*names: str) -> list[dict[str, Any]]:
    return [{"id": number, "file_name": name} for number, name in enumerate(names)]


def keys(source: object) -> list[str]:
    return [found.key for found in list_candidates((str(source),))]


@pytest.mark.parametrize("arrangement", ["train2017", "images/train2017", "images"])
def test_cocos_own_arrangement_is_found(tmp_path: Path, arrangement: str) -> None:
    make_photographs(tmp_path / arrangement, 3)
    file = annotations(tmp_path / "annotations" / "instances_train2017.json", images("2.png", "0.png"))
    assert source_folder(str(file)) == LocalFolder(tmp_path / arrangement)
    assert keys(file) == ["0.png", "2.png"], "the photographs named, sorted, and no others"
    assert capital(file) == keys(file)


def capital(file: Path) -> list[str]:
    """The same with the suffix in capitals."""
    copy = file.with_suffix(".JSON")
    copy.write_bytes(file.read_bytes())
    return keys(copy)


def test_the_folder_can_be_named(tmp_path: Path) -> None:
    make_photographs(tmp_path / "elsewhere" / "sub", 2)
    file = annotations(tmp_path / "my.json", images("sub/1.png"))
    (found,) = list_candidates((f"{file}={tmp_path / 'elsewhere'}",))
    assert found.key == "sub/1.png"
    assert found.bytes == (tmp_path / "elsewhere/sub/1.png").stat().st_size


def test_a_photograph_named_twice_counts_once(tmp_path: Path) -> None:
    make_photographs(tmp_path / "images", 1)
    assert keys(annotations(tmp_path / "my.json", images("0.png", "./0.png", "0.png"))) == ["0.png"]


def test_photographs_with_the_same_id_are_all_taken(tmp_path: Path) -> None:
    """Merged annotation files often repeat ids; photographs must not vanish silently."""
    make_photographs(tmp_path / "images", 2)
    file = annotations(tmp_path / "my.json", [{"id": 7, "file_name": f"{n}.png"} for n in range(2)])
    try:
        assert keys(file) == ["0.png", "1.png"]
    except DataError as error:
        assert "id" in str(error)


def test_a_photograph_that_is_not_there_is_listed_for_the_quarantine(tmp_path: Path) -> None:
    make_photographs(tmp_path / "images", 1)
    file = annotations(tmp_path / "my.json", images("0.png", "gone.png"))
    assert [(c.key, c.bytes < 0) for c in list_candidates((str(file),))] == [("0.png", False), ("gone.png", True)]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret.png",
        "a/../../secret.png",
        "a/..",
        "a\0.png",
        "..\\secret.png",
        "C:\\secret.png",
        "\\\\host\\a.png",
    ],
)
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    make_photographs(tmp_path / "images", 1)
    with pytest.raises(DataError, match=r"my\.json: image 1 leads out of the data folder") as caught:
        keys(annotations(tmp_path / "my.json", images("0.png", name)))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    make_photographs(tmp_path / "images", 1)
    with pytest.raises(DataError, match=r"my\.json: image 1 has a name that no file can have: '\\ud800\.png'"):
        keys(annotations(tmp_path / "my.json", images("0.png", "\ud800.png")))


@pytest.mark.parametrize("image", [{"id": 1}, {"id": 1, "file_name": ""}, {"id": 1, "file_name": 5}])
def test_an_image_without_file_name_is_named(tmp_path: Path, image: dict[str, Any]) -> None:
    make_photographs(tmp_path / "images", 1)
    with pytest.raises(DataError, match=r'my\.json: image 1 .*no "file_name"'):
        keys(annotations(tmp_path / "my.json", [{"id": 0, "file_name": "0.png"}, image]))


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "",
        "[]",
        "5",
        "null",
        '"images"',
        "{}",
        '{"annotations": [], "categories": []}',
        '{"images": []}',
        '{"images": {}}',
        '{"images": null}',
        '{"images": [1]}',
        '{"images": [{"file_name": "0.png"}]}',
        '{"images": "0.png"}',
        '{"images": [{"id": [], "file_name": "0.png"}]}',
        '{"images": [], "annotations": [{}]}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_coco_json_is_one_line(tmp_path: Path, text: str) -> None:
    make_photographs(tmp_path / "images", 1)
    (tmp_path / "my.json").write_text(text)
    with pytest.raises(DataError, match=r"my\.json") as caught:
        keys(tmp_path / "my.json")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    make_photographs(tmp_path / "images", 1)
    (tmp_path / "my.json").write_bytes(b"\xff\xfe\x00\x80{")
    with pytest.raises(DataError, match=r"my\.json"):
        keys(tmp_path / "my.json")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file .*my\.json"):
        keys(tmp_path / "my.json")
    file = annotations(tmp_path / "my.json", images("0.png"))
    with pytest.raises(DataError, match=r"my\.json=FOLDER"):
        keys(file)
    with pytest.raises(DataError, match=r"no such folder .*none"):
        keys(f"{file}={tmp_path / 'none'}")


def test_a_pipe_is_no_photograph_and_no_json(tmp_path: Path) -> None:
    """Nobody writes into it, so it would be waited for without end."""
    make_photographs(tmp_path / "images", 1)
    os.mkfifo(tmp_path / "images" / "pipe.png")
    found = list_candidates((str(annotations(tmp_path / "my.json", images("0.png", "pipe.png"))),))
    assert [(c.key, c.bytes > 0) for c in found] == [("0.png", True), ("pipe.png", False)]
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"no such file .*pipe\.json"):
        keys(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json cannot be read: it is not a regular file"):
        annotated_photographs(str(tmp_path / "pipe.json"))


def test_it_can_stand_beside_a_folder(tmp_path: Path) -> None:
    folder = make_photographs(tmp_path / "folder", 1)
    make_photographs(tmp_path / "images", 2)
    file = annotations(tmp_path / "my.json", images("1.png"))
    found = list_candidates((str(file), str(folder)))
    assert [(c.source, c.key) for c in found] == [(0, "1.png"), (1, "0.png")]

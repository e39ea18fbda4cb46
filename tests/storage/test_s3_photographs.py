"""Photographs on S3: found, checked and read as those of a folder."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from schemas.errors import DataError, PhotographChangedError, RunError, UnreachableError
from stages.index_images import examine
from storage import s3_connection
from storage.index import Photograph, Quarantined, photograph_reader
from storage.photographs import Candidate, Limits, PhotographReader, list_candidates, listing_digest, source_folder
from tests.object_server import ObjectServer
from tests.storage.samples import encoded, make_photographs, photograph


@pytest.fixture
def url(object_server: ObjectServer, bucket: str, tmp_path: Path) -> str:
    """Four photographs on S3, the same as in `tmp_path/local`, and files that are none."""
    folder = make_photographs(tmp_path / "local", 3)
    (folder / "sub").mkdir()
    (folder / "sub" / "with space ü.JPG").write_bytes(encoded(photograph(9), "jpg"))
    for file in folder.rglob("*"):
        if file.is_file():
            key = file.relative_to(folder).as_posix().replace(" ", "%20").replace("ü", "%C3%BC")
            object_server.put(bucket, f"data/{key}", file.read_bytes())
    for name in ("data/notes.txt", "data/.hidden.png", "data/.hidden/a.png", "data2/a.png"):
        object_server.put(bucket, name, b"12345")
    return f"s3://{bucket}/data"


def test_the_listing_is_that_of_the_same_local_folder(url: str, tmp_path: Path) -> None:
    found = list_candidates((url,))
    assert found == list_candidates((str(tmp_path / "local"),))
    assert listing_digest(found) == listing_digest(list_candidates((f"{url}/",)))
    assert [each.key for each in found] == ["0.png", "1.png", "2.png", "sub/with space ü.JPG"]


def rows(source: str) -> list[Photograph]:
    found = [examine(source_folder(source), candidate, Limits()) for candidate in list_candidates((source,))]
    return [row for row in found if isinstance(row, Photograph)]


def test_rows_of_the_index_are_those_of_the_same_local_folder(url: str, tmp_path: Path) -> None:
    assert len(rows(url)) == 4
    assert rows(url) == rows(str(tmp_path / "local"))


class _Pixels(Dataset[Any]):
    def __init__(self, reader: PhotographReader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, row: int) -> Any:
        return np.array(self._reader(row))


def test_loader_processes_threads_and_copies_read_the_same_pixels(url: str, tmp_path: Path) -> None:
    local = photograph_reader(rows(url), (str(tmp_path / "local"),))
    expected = [np.asarray(local(row)) for row in range(4)]
    reader = photograph_reader(rows(url), (url,))
    with ThreadPoolExecutor(8) as pool:
        for row, image in zip([*range(4)] * 5, pool.map(reader, [*range(4)] * 5), strict=True):
            np.testing.assert_array_equal(image, expected[row])
    loader = DataLoader(_Pixels(pickle.loads(pickle.dumps(reader))), batch_size=None, num_workers=2)
    for image, pixels in zip(loader, expected, strict=True):
        np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "no such folder"), ("data/notes.txt", "this is a file"), ("data/.hidden", "")],
)
def test_a_source_without_photographs_is_named(url: str, name: str, message: str) -> None:
    source = url.replace("data", name)
    if not message:
        assert len(list_candidates((source,))) == 1
        return
    with pytest.raises(DataError, match=f"--data {source}: {message}"):
        list_candidates((source,))


def test_a_folder_of_other_files_is_named(object_server: ObjectServer, bucket: str) -> None:
    object_server.put(bucket, "texts/a.txt", b"1")
    with pytest.raises(DataError, match=f"--data s3://{bucket}/texts: no photographs here"):
        list_candidates((f"s3://{bucket}/texts",))


def test_what_is_gone_or_changed_is_named_with_its_url(bucket: str, url: str) -> None:
    reader = photograph_reader(rows(url), (url,))
    s3_connection.Bucket(bucket).put("data/0.png", encoded(photograph(77)))
    s3_connection.Bucket(bucket).delete(["data/1.png"])
    with pytest.raises(PhotographChangedError, match=rf"{url}/0\.png \(row 0\) has changed"):
        reader(0)
    with pytest.raises(PhotographChangedError, match=rf"{url}/1\.png \(row 1\) cannot be read: No such file"):
        reader(1)
    gone = examine(source_folder(url), Candidate(0, "1.png", 5), Limits())
    assert isinstance(gone, Quarantined)
    assert gone.reason == "cannot be read: No such file or directory"


def test_a_server_that_is_away_quarantines_nothing(
    object_server: ObjectServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, folder = photograph_reader(rows(url), (url,)), source_folder(url)
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 0.3)
    object_server.stop()
    try:
        with pytest.raises(UnreachableError, match=r"0\.png: no answer"):
            reader(0)
        with pytest.raises(UnreachableError, match=r"0\.png: no answer"):
            examine(folder, Candidate(0, "0.png", 5), Limits())
    finally:
        object_server.start()


@pytest.mark.parametrize("arrangement", ["data", "images/data", "images"])
def test_a_coco_json_and_its_photographs_are_found_in_cocos_arrangement(
    object_server: ObjectServer, bucket: str, arrangement: str
) -> None:
    images = [{"id": 0, "file_name": "1.png"}, {"id": 1, "file_name": "gone.png"}]
    object_server.put(bucket, "coco/annotations/instances_data.json", json.dumps({"images": images}).encode())
    object_server.put(bucket, f"coco/{arrangement}/1.png", encoded(photograph(1)))
    source = f"s3://{bucket}/coco/annotations/instances_data.json"
    assert str(source_folder(source)) == f"s3://{bucket}/coco/{arrangement}"
    assert [(c.key, c.bytes < 0) for c in list_candidates((source,))] == [("1.png", False), ("gone.png", True)]


def test_json_and_photographs_may_lie_in_different_places(
    object_server: ObjectServer, bucket: str, url: str, tmp_path: Path
) -> None:
    text = json.dumps({"images": [{"id": 0, "file_name": "1.png"}]})
    (tmp_path / "my.json").write_text(text)
    object_server.put(bucket, "my.json", text.encode())
    for source in (f"{tmp_path}/my.json={url}", f"s3://{bucket}/my.json={tmp_path}/local"):
        (found,) = list_candidates((source,))
        assert found.key == "1.png"
        assert source_folder(source).read("1.png") == (tmp_path / "local" / "1.png").read_bytes()
    with pytest.raises(DataError, match="no such file"):
        list_candidates((f"s3://{bucket}/none.json={url}",))
    with pytest.raises(DataError, match="no such folder"):
        list_candidates((f"s3://{bucket}/my.json={url}-not",))
    with pytest.raises(DataError, match="say where"):
        list_candidates((f"s3://{bucket}/my.json",))


def test_credentials_in_a_source_are_refused_and_not_repeated() -> None:
    with pytest.raises(RunError, match="credentials do not belong into a URL") as caught:
        list_candidates(("s3://key-id:s3cret@bucket/data",))
    assert "s3cret" not in str(caught.value)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(DataError, match="--data ftp://host/data: ftp:// is not supported"):
        list_candidates(("ftp://host/data",))

"""The S3 store against a real HTTP server: the contract, and what only an object store has."""

import pytest

from schemas.errors import UnreachableError
from storage import s3_connection
from storage.s3 import S3Store
from storage.store import Store
from tests.object_server import ObjectServer
from tests.storage.store_contract import StoreContract


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, bucket: str) -> Store:
        return S3Store(f"s3://{bucket}/runs/one")


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(f"s3://{bucket}/run")


def test_a_third_of_all_answers_being_503_changes_nothing(object_server: ObjectServer, store: S3Store) -> None:
    """Half of those requests were carried out all the same, so a create may find its own file."""
    files = {f"f/{number:02d}": bytes([number]) * 100 for number in range(20)}
    with object_server.busy(0.3):
        for path, data in files.items():
            assert store.create(path, data)
            assert not store.create(path, b"other")
        assert store.list("") == sorted(files)
        assert {path: store.read(path) for path in files} == files
        folder = store.fetch("f")
        assert {f"f/{file.name}": file.read_bytes() for file in folder.iterdir()} == files
        with store.lease("f/lease"):
            pass
        store.delete("f")
        assert store.list("") == []
    assert object_server.refused > 20


def test_a_server_that_is_gone_is_waited_for_and_the_person_told_once(
    object_server: ObjectServer, store: S3Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(s3_connection, "_QUIET_SECONDS", 0.5)
    store.write("before", b"1")
    with object_server.gone(3):
        store.write("after", b"2")
        assert store.read("before") == b"1"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{store.url}/after: no answer (")
    assert "trying again" in line


def test_a_server_that_stays_away_ends_in_one_line(
    object_server: ObjectServer, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 1.0)
    object_server.stop()
    try:
        with pytest.raises(UnreachableError, match=f"{store.url}/a: no answer for . s .*the same command") as caught:
            store.read("a")
    finally:
        object_server.start()
    assert "\n" not in str(caught.value)
    assert store.size("a") is None

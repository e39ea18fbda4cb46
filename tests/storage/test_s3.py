"""The S3 store against a real HTTP server: the contract, and what only an object store has."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from schemas.digests import digest_bytes
from schemas.errors import RunError, UnreachableError
from storage import s3, s3_connection
from storage.run import create_run, mend_record, open_run, replace_record
from storage.s3 import S3Store
from storage.s3_errors import PreconditionFailedError
from storage.store import Store, open_store
from tests.object_server import ObjectServer
from tests.storage.samples import make_record
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


def test_a_damaged_record_is_restored_and_of_two_changes_the_second_is_told(store: S3Store) -> None:
    run = create_run(store.url, make_record())
    changed = replace_record(run, run.record, note={"data": (1, 2)})
    with pytest.raises(RunError, match="somebody else has just changed it"):
        replace_record(run, run.record, note={"data": (1, 3)})
    store.write("run.json", store.read("run.json")[:-30])
    found = open_run(store.url)
    assert found.record == changed.record
    assert found.restored is not None and found.restored.endswith("restored from history/run-00001.json")
    mend_record(found)
    assert open_run(store.url).restored is None


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


def test_the_answer_to_a_create_that_was_lost_does_not_lose_the_file(store: S3Store) -> None:
    """What stands there after a repeated request is this process' own."""
    assert store.create("a", b"mine")
    bucket = s3_connection.Bucket(store.url.split("/")[2])
    with pytest.raises(PreconditionFailedError):
        bucket.put("run/a", b"other", only_new=True)
    with pytest.raises(PreconditionFailedError):
        bucket.put("run/a", b"other", only_over='"another etag"')
    with pytest.raises(PreconditionFailedError):
        bucket.put("run/none", b"other", only_over='"another etag"')
    assert store.read("a") == b"mine"


def test_a_changed_object_is_never_served_from_the_cache(store: S3Store, cache: Path) -> None:
    other = S3Store(store.url)
    store.write("f/a", b"first")
    path = store.fetch("f/a")
    assert path.is_relative_to(cache)
    other.write("f/a", b"other")
    assert store.fetch("f/a").read_bytes() == b"other"
    other.delete("f/a")
    other.write("f/b", b"b")
    assert sorted(file.name for file in store.fetch("f").iterdir()) == ["b"]


def test_a_damaged_copy_is_fetched_again_and_a_whole_one_is_not(object_server: ObjectServer, store: S3Store) -> None:
    store.write("f/a", b"whole")
    store.fetch("f/a").write_bytes(b"whola")
    assert S3Store(store.url).fetch("f/a").read_bytes() == b"whole"
    before = len(object_server.requests)
    assert S3Store(store.url).fetch("f/a").read_bytes() == b"whole"
    assert [method for method, _ in object_server.requests[before:]] == ["HEAD"]


def test_what_was_written_is_digested_without_reading_it_again(object_server: ObjectServer, store: S3Store) -> None:
    store.write("f/a", b"12345")
    (store.folder("f/g") / "b").write_bytes(b"b")
    store.publish("f")
    before = len(object_server.requests)
    expected = {"f/a": (5, digest_bytes(b"12345")), "f/g/b": (1, digest_bytes(b"b"))}
    assert store.digests("f") == expected
    assert len(object_server.requests) == before + 1, "one listing"
    S3Store(store.url).write("f/a", b"other")
    assert store.digests("f")["f/a"] == (5, digest_bytes(b"other"))
    assert S3Store(store.url).digests("f")["f/g/b"] == expected["f/g/b"]


def test_a_workspace_is_made_equal_to_the_bucket_and_only_changes_are_published(
    object_server: ObjectServer, store: S3Store
) -> None:
    store.write("m/c/0", b"shard 0")
    folder = store.folder("m")
    (folder / "c" / "1").write_bytes(b"unpublished")
    (folder / "c" / "0").write_bytes(b"half")
    assert {path.name: path.read_bytes() for path in (store.folder("m") / "c").iterdir()} == {"0": b"shard 0"}
    (folder / "c" / "1").write_bytes(b"shard 1")
    before = len(object_server.requests)
    store.publish("m")
    assert [path.rsplit("/", 1)[1] for method, path in object_server.requests[before:] if method == "PUT"] == ["1"]
    other = S3Store(store.url)
    elsewhere = other.folder("m")
    assert elsewhere != folder
    assert {path.name: path.read_bytes() for path in (elsewhere / "c").iterdir()} == {"0": b"shard 0", "1": b"shard 1"}


def test_of_many_requests_at_once_none_begins_after_one_has_failed() -> None:
    """Else each would wait for a lost server in turn."""
    begun, all_at_work = list[int](), threading.Barrier(s3._REQUESTS_AT_ONCE, timeout=10)

    def fail(number: int) -> None:
        begun.append(number)
        all_at_work.wait()
        raise UnreachableError(f"{number}: no answer")

    with pytest.raises(UnreachableError, match="^0: no answer"):
        s3._at_once(fail, range(100))
    assert sorted(begun) == list(range(s3._REQUESTS_AT_ONCE))


def test_a_killed_process_leaves_no_workspace_for_long(store: S3Store, cache: Path) -> None:
    make = "import sys, os; from storage.s3 import S3Store; s = S3Store(sys.argv[1]); print(s.folder('f'), flush=True)"
    for end, stays in (("; os.kill(os.getpid(), 9)", True), ("", False)):
        command = [sys.executable, "-c", make + end, store.url]
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
        assert Path(made).exists() == stays
    ours = store.folder("f")
    assert {path.name for path in (cache / "s3" / "work").iterdir()} == {ours.parents[1].name}


def test_a_cache_that_knows_no_locks_is_named(store: S3Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over NFS without a lock daemon: once said, not tried with one new folder after the other."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RunError, match=f"^cache {cache}/s3/work: .*No locks available.*CYBORGS_CACHE$"):
        store.folder("f")
    assert list((cache / "s3" / "work").iterdir()) == []


def test_copies_that_nobody_uses_are_removed(store: S3Store) -> None:
    for name in ("a", "b"):
        store.write(f"f/{name}", name.encode())
    old, new = store.fetch("f/a"), store.fetch("f/b")
    os.utime(old, (1, 1))
    S3Store(store.url).fetch("f/b")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_log_reaches_the_bucket_in_parts(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_LOG_PART_BYTES", 20)
    log = store.appender("logs/key-1.jsonl")
    log.write("line 0")
    assert store.list("logs") == [], "not a request for every line"
    log.flush()
    assert b"".join(map(store.read, store.list("logs"))) == b"line 0\n"
    for number in range(1, 7):
        log.write(f"line {number}")
    log.close()
    assert len(store.list("logs")) == 3
    assert b"".join(map(store.read, store.list("logs"))) == b"".join(b"line %d\n" % number for number in range(7))
    store.appender("logs/empty.jsonl").close()
    assert len(store.list("logs")) == 3


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials: set AWS_ACCESS_KEY_ID and"),
        ({"AWS_ENDPOINT_URL": "not a url"}, "see AWS_ENDPOINT_URL"),
        ({"AWS_PROFILE": "nobody"}, "nobody.*AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer for"),
    ],
)
def test_what_is_missing_in_the_environment_is_one_line(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 0.2)
    monkeypatch.setattr(s3_connection, "_opened", {})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(UnreachableError, match=message) as caught:
        store.read("a")
    assert str(caught.value).startswith(store.url)
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    for call in (lambda store: store.read("a"), lambda store: store.write("a", b""), lambda store: store.list("")):
        with pytest.raises(UnreachableError, match=f"there is no bucket {bucket}-not: make it first"):
            call(S3Store(f"s3://{bucket}-not/run"))


@pytest.mark.parametrize("url", ["s3://key-id:s3cret@bucket/run", "s3://s3cret@bucket", "s3://key-id:s3cret/run"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RunError, match="credentials do not belong into a URL: set AWS_ACCESS_KEY_ID") as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
    assert "key-id" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///run", "s3://b/run", "s3://bucket/a/../b", "s3://bu cket/run"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(RunError):
        open_store(url)


def test_a_run_may_be_a_whole_bucket(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/")
    store.write("f/a", b"1")
    assert (store.url, store.list(""), store.list("f")) == (f"s3://{bucket}", ["f/a"], ["f/a"])
    assert store.fetch("f/a").read_bytes() == b"1"


def test_a_process_that_used_the_store_ends_at_once(store: S3Store) -> None:
    """Also a forked one, which opens a connection of its own."""
    program = """
import multiprocessing, sys
from storage.s3 import S3Store
store = S3Store(sys.argv[1])
store.write("a", b"1")
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(store.read, ["a"] * 4) == [b"1"] * 4
assert store.read("a") == b"1"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, store.url], check=True, timeout=60)


def test_a_server_without_conditional_writes_serves_too(
    object_server: ObjectServer, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_server, "knows_conditions", False)
    assert store.create("a", b"first")
    assert not store.create("a", b"second")
    assert store.read("a") == b"first"
    with store.lease("f/lease"):
        assert store.list("f") == ["f/lease"]
    assert store.list("f") == []

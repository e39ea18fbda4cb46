"""The lease on S3: who beats keeps it, who stands still loses it and hears so, who is asked to stop does not wait."""

import threading
import time

import pytest

from schemas.errors import PreemptedError, UnreachableError
from storage import s3_connection, s3_lease
from storage.s3 import S3Store
from tests.object_server import ObjectServer


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(f"s3://{bucket}/run")


def test_a_lease_that_stands_still_is_taken_over_and_its_holder_gives_way(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first holder stops beating, as if stopped by SIGSTOP, and comes back while another works."""
    monkeypatch.setattr(s3_lease, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(s3_lease, "STALE_SECONDS", 1.5)
    stopped, told = threading.Event(), threading.Event()
    beat = s3_lease._Lease.beat

    def beat_unless_stopped(lease: s3_lease._Lease) -> None:
        if lease is first and stopped.is_set():
            return
        beat(lease)

    monkeypatch.setattr(s3_lease._Lease, "beat", beat_unless_stopped)
    made: list[s3_lease._Lease] = []
    make = s3_lease._Lease.__init__

    def remember(lease: s3_lease._Lease, *given: object) -> None:
        make(lease, *given)
        made.append(lease)

    monkeypatch.setattr(s3_lease._Lease, "__init__", remember)
    with store.lease("f/lease", lost=told.set):
        first = made[0]
        stopped.set()
        with store.lease("f/lease"):
            stopped.clear()
            assert told.wait(5), "the first holder never heard"
            assert store.read("f/lease").decode().count(made[1]._owner) == 1
    assert store.list("") == []


def test_a_holder_that_beats_is_not_taken_for_dead(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(s3_lease, "STALE_SECONDS", 2.0)
    entered = threading.Event()

    def wait() -> None:
        with store.lease("f/lease"):
            entered.set()

    other = threading.Thread(target=wait)
    with store.lease("f/lease"):
        other.start()
        assert not entered.wait(4)
    assert entered.wait(10)
    other.join()


def test_whether_it_is_held_is_asked_of_the_server_each_time(store: S3Store) -> None:
    """A machine that was suspended knows not how long; its clock stood still too."""
    with store.lease("f/lease") as held:
        assert held()
        S3Store(store.url).write("f/lease", b'{"owner": "another", "who": "another", "beat": 1}')
        assert not held()
    assert b"another" in store.read("f/lease")


def test_a_lost_server_is_waited_for_until_somebody_asks_to_stop(
    object_server: ObjectServer, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_connection, "_HURRIED_SECONDS", 0.5)
    asked = threading.Event()

    def check() -> None:
        if asked.is_set():
            raise PreemptedError("stopped")

    store.write("a", b"1")
    with store.lease("f/lease", check=check):
        with object_server.gone(2):
            assert store.read("a") == b"1"
        asked.set()
        object_server.stop()
        started = time.monotonic()
        try:
            with pytest.raises(UnreachableError, match=f"^{store.url}/a: no answer for"):
                store.read("a")
            assert 0.5 < time.monotonic() - started < 20, "it waits for minutes where nobody asks"
        finally:
            object_server.start()
        assert store.read("a") == b"1", "the next request was not tried"


@pytest.mark.timeout(60)
def test_a_lease_that_nobody_has_and_nobody_gets_is_tried_for_with_pauses_and_given_up(
    object_server: ObjectServer, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_lease, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(object_server, "contradicts", True)
    before, looks, started = len(object_server.requests), list[float](), time.monotonic()
    with (
        pytest.raises(UnreachableError, match=f"{store.url}/f/lease: nobody has this lease and yet it cannot be taken"),
        store.lease("f/lease", check=lambda: looks.append(time.monotonic() - started)),
    ):
        pytest.fail("it was taken")
    assert len(object_server.requests) - before < 50
    assert len(looks) == 9, "a stop was not looked for"
    assert looks[8] - looks[7] > 4 * 0.01, "the pauses do not grow"

"""A server that takes the connection and then says nothing, or stops in the middle of an answer: a real socket."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.errors import UnreachableError
from storage import s3_connection
from storage.s3 import S3Store
from tests.object_server import ENVIRONMENT

HALF_AN_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "0"\r\n\r\nhalf'


class SilentServer:
    """Accepts, reads the request, sends what it was given, and keeps the connection open; if it drips, a byte is sent
    again and again.
    """

    def __init__(self, answer: bytes, *, drips: bool = False) -> None:
        self._drips = drips
        self._answer, self._open = answer, list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while connection.recv(65536):
                connection.sendall(self._answer)
                while self._drips:
                    time.sleep(0.2)
                    connection.sendall(b".")
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()


@contextmanager
def silent(answer: bytes, *, drips: bool = False) -> Iterator[SilentServer]:
    server = SilentServer(answer, drips=drips)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("answer", "request_"),
    [
        (b"", lambda store: store.read("a")),
        (b"", lambda store: store.write("a", b"1")),
        (b"", lambda store: store.list("")),
        (HALF_AN_ANSWER, lambda store: store.read("a")),
    ],
    ids=["get", "put", "list", "stops within an answer"],
)
def test_a_silent_server_ends_in_one_line_within_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes, request_: object
) -> None:
    """One request may be silent for so long, and is made again until it is given up."""
    monkeypatch.setattr(s3_connection, "_opened", {})
    monkeypatch.setattr(s3_connection, "_outage", s3_connection._Outage())
    monkeypatch.setattr(s3_connection, "_LEAST_SECONDS", 1)
    monkeypatch.setattr(s3_connection, "_QUIET_SECONDS", 0.5)
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 6.0)  # the first try makes a client, which takes its time
    with silent(answer) as server:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        started = time.monotonic()
        with pytest.raises(
            UnreachableError,
            match=r"no answer for \d+ s \((Read timeout|Timeout on|silent or).*the same command goes on",
        ) as caught:
            request_(S3Store("s3://bucket/run"))  # type: ignore[operator]
        assert time.monotonic() - started < 18
        assert server.accepted, "nothing reached it: this test shows nothing"
    assert "\n" not in str(caught.value)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no answer" in line and "trying again" in line


@pytest.mark.timeout(60)
def test_a_server_that_sends_a_byte_now_and_then_is_not_heard_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never silent for long; its 1000 bytes would take more than three minutes."""
    monkeypatch.setattr(s3_connection, "_opened", {})
    monkeypatch.setattr(s3_connection, "_LEAST_SECONDS", 1)
    monkeypatch.setattr(s3_connection, "_SLOWEST_BYTES_PER_SECOND", 1000)
    monkeypatch.setattr(s3_connection, "GIVE_UP_SECONDS", 1.0)
    with silent(HALF_AN_ANSWER, drips=True) as server:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        started = time.monotonic()
        with pytest.raises(UnreachableError, match=r"/a: no answer for \d+ s \(silent or too slow\)"):
            S3Store("s3://bucket/run").read("a")
        assert 2.5 < time.monotonic() - started < 20, "two seconds, and one for 1000 bytes"

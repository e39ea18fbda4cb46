"""What `cyborgs watch` answers, asked without a browser."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.errors import RunError
from stages.report import server
from stages.report.data import report_data
from stages.report.server import Refresher, make_server
from storage.run import open_run


@pytest.fixture
def watched(tiny_run: Path) -> Iterator[ThreadingHTTPServer]:
    with make_server(str(tiny_run), port=0) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def ask(watched: ThreadingHTTPServer, path: str, host: str | None = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", watched.server_address[1], timeout=30)
    connection.request("GET", path, headers={"Host": host} if host is not None else {})
    answer = connection.getresponse()
    found = answer.status, answer.getheader("ETag") or "", answer.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (None, 200),
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("localhost:8787", 200),
        ("127.0.0.1:80", 200),
        ("elsewhere.example:80", 403),
        ("elsewhere.example", 403),
        ("127.0.0.1.elsewhere.example", 403),
        ("localhost@elsewhere.example", 403),
        ("[127.0.0.1", 403),
        ("", 403),
    ],
)
def test_it_answers_to_its_own_names_alone(watched: ThreadingHTTPServer, host: str | None, status: int) -> None:
    assert ask(watched, "/data.json", host)[0] == status


def test_news_are_told_once_and_pictures_where_they_changed(watched: ThreadingHTTPServer, tiny_run: Path) -> None:
    data = report_data(open_run(str(tiny_run)))
    _, version, body = ask(watched, "/data.json")
    assert json.loads(body) == json.loads(json.dumps(data))
    assert ask(watched, f"/data.json?version={version}")[::2] == (204, b"")
    body = ask(watched, f"/data.json?version=older&pictures={data['fingerprint']}")[2]
    assert json.loads(body).keys() == data.keys() - {"pictures"}
    assert ask(watched, "/run.json")[0] == 404


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "manifest.json"), ValueError("Expecting value"), RunError("gone")]
)
def test_what_cannot_be_read_just_now_is_said(
    watched: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(server, "report_data", fail)
    for path in ("/", "/data.json"):
        status, _, body = ask(watched, path)
        assert status == 503
        assert str(error.args[-1]).encode() in body
    assert capfd.readouterr().err == ""


def test_a_tab_that_is_closed_early_is_no_fault(
    watched: ThreadingHTTPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """The page has megabytes: what is left of it cannot be sent."""
    for _ in range(3):
        with socket.create_connection(watched.server_address[:2]) as closed:  # type: ignore[arg-type]
            closed.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            closed.recv(1)
    assert ask(watched, "/data.json")[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("took", "rest"), [(0.01, 1.0), (3.0, 60.0)])
def test_all_tabs_have_one_look_which_rests_twenty_times_as_long(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Path, took: float, rest: float
) -> None:
    now, looks = [100.0], list[float]()

    def look(*_: object, **__: object) -> dict[str, object]:
        looks.append(now[0])
        now[0] += took
        return {"fingerprint": "", "pictures": {}}

    monkeypatch.setattr(server, "report_data", look)
    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: now[0]))
    refresher = Refresher(str(tiny_run))
    assert refresher.latest() == refresher.latest()
    now[0] = 100 + took + rest - 0.001
    refresher.latest()
    assert looks == [100]
    now[0] += 0.002
    refresher.latest()
    assert len(looks) == 2

"""`cyborgs watch`: the report's page on 127.0.0.1, which asks for news while the run goes on."""

import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from schemas.digests import digest_json
from schemas.errors import CyborgsError, RunError
from stages.report.data import Tree, report_data
from stages.report.memory import Memory
from stages.report.page import as_script, render
from storage.run import open_run

_ADDRESS = "127.0.0.1"
_REST_SECONDS, _REST_SHARE = 1.0, 20.0
"""The run is looked at again after so long, or so many times as long as the last look took."""


class Refresher:
    """The report's data for all tabs: one looks at the run, the others have what it saw."""

    def __init__(self, url: str) -> None:
        self._url, self._memory, self._lock = url, Memory(), threading.Lock()
        self._due = 0.0
        self._seen: tuple[Tree, str] | str = ""

    def latest(self) -> tuple[Tree, str] | str:
        """The data with its version, or why there is none."""
        with self._lock:
            started = time.monotonic()
            if started >= self._due:
                self._seen = self._look()
                now = time.monotonic()
                self._due = now + max(_REST_SECONDS, _REST_SHARE * (now - started))
            return self._seen

    def _look(self) -> tuple[Tree, str] | str:
        try:
            data = report_data(open_run(self._url), memory=self._memory)
        # What is read changes meanwhile: files go, or are not whole yet.
        except (CyborgsError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}" if not isinstance(error, CyborgsError) else str(error)
        return data, digest_json(_without_pictures(data))


def make_server(url: str, *, port: int) -> ThreadingHTTPServer:
    """A server of the live page of the run at `url`, not yet serving.

    Args:
        port: on 127.0.0.1; 0 for any that is free.

    Raises:
        RunError: there is no run, or the port is taken.
    """
    open_run(url)
    try:
        server = _Server((_ADDRESS, port), _handler(Refresher(url)))
    except OSError as error:
        raise RunError(f"port {port}: {error.strerror}: give another --port") from error
    server.daemon_threads = True
    return server


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A tab that was closed before it had its answer is no fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(refresher: Refresher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """The page, and its data where that has changed."""

        def do_GET(self) -> None:
            """Answer; a page of another site that was pointed here by a name of its own gets nothing."""
            if not _is_ours(self.headers.get("Host") or ""):
                self.send_error(HTTPStatus.FORBIDDEN)
                return
            asked = urlsplit(self.path)
            if asked.path not in ("/", "/index.html", "/data.json"):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            seen = refresher.latest()
            if isinstance(seen, str):
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=seen)
            elif asked.path == "/data.json":
                query = parse_qs(asked.query)
                self._news(*seen, query.get("version", [""])[0], query.get("pictures", [""])[0])
            else:
                self._answer(render(seen[0], live=True), "text/html; charset=utf-8")

        def _news(self, data: Tree, newest: str, version: str, pictures: str) -> None:
            if newest == version:
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()
                return
            if data["fingerprint"] == pictures:
                data = _without_pictures(data)
            self._answer(as_script(data), "application/json", version=newest)

        def _answer(self, text: str, kind: str, *, version: str | None = None) -> None:
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            if version is not None:
                self.send_header("ETag", version)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is for the person."""

    return Handler


def _without_pictures(data: Tree) -> Tree:
    return {name: value for name, value in data.items() if name != "pictures"}


def _is_ours(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in (_ADDRESS, "localhost")
    except ValueError:
        return False

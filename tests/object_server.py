"""moto's S3 as a real HTTP server on loopback, with the faults that a test asks for."""

import random
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing-key-id",
    "AWS_SECRET_ACCESS_KEY": "testing-secret-kY7x",
    "AWS_DEFAULT_REGION": "us-east-1",
}
BUSY = b'<?xml version="1.0"?><Error><Code>ServiceUnavailable</Code><Message>Please try again</Message></Error>'


class _QuietHandler(WSGIRequestHandler):
    """Without a line for each request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        """Nothing."""


class ObjectServer:
    """What it holds outlives `stop`; the port stays the same."""

    def __init__(self) -> None:
        # moto takes seconds to import: only tests that need it pay.
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._port = 0
        self._away = False
        self._random = random.Random(0)
        self.busy_share = 0.0
        """Share of requests that are answered 503; half of them after they were carried out."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of all that came in."""
        self.refused = 0
        self.knows_conditions = True
        """Whether it takes conditional writes; some servers answer 501."""
        self.contradicts = False
        """Whether it refuses every create-only write, as if something stood there."""
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self, threaded=True, request_handler=_QuietHandler)
        self._server.daemon_threads = True
        self._away = False
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nobody listens at the port any more."""
        assert self._server is not None and self._thread is not None
        self._away = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def gone(self, seconds: float) -> Iterator[None]:
        """Away for a while, back by itself."""
        self.stop()
        timer = threading.Timer(seconds, self.start)
        timer.start()
        try:
            yield
        finally:
            timer.join()

    @contextmanager
    def busy(self, share: float, *, seed: int = 0) -> Iterator[None]:
        """503 for a share of the requests."""
        self._random, self.busy_share, self.refused = random.Random(seed), share, 0
        try:
            yield
        finally:
            self.busy_share = 0.0

    def make_bucket(self, name: str) -> None:
        """A new one, empty."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """An object, as another program would put it."""
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.url}/{bucket}/{key}", data=data, method="PUT", headers=kind)
        urllib.request.urlopen(request).close()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._away:  # on a connection that was opened before
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        refuse = self._random.random() < self.busy_share
        if refuse and self._random.random() < 0.5:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return self._refuse(start_response)
        if "HTTP_IF_NONE_MATCH" in environ and not self.knows_conditions:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("501 Not Implemented", [("Content-Length", "0")])
            return []
        if "HTTP_IF_NONE_MATCH" in environ and self.contradicts:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("412 Precondition Failed", [("Content-Length", "0")])
            return []
        # moto looks, then writes; S3 does both at once.
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with self._lock if conditional else nullcontext():
            answer = self._moto(environ, (lambda *_: None) if refuse else start_response)
        return self._refuse(start_response) if refuse else answer

    def _refuse(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.refused += 1
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))]
        start_response("503 Service Unavailable", headers)
        return [BUSY]


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Look again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)

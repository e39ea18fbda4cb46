"""A lease on S3: an object that its holder writes anew every few seconds, and others take over when it stands still.

Whether it changes is what counts, as each waiting process sees it; clocks of two machines are never compared.
It saves work only: what two holders do at worst is the same work twice.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.errors import UnreachableError
from storage.s3_connection import Bucket, given_up
from storage.s3_errors import PreconditionFailedError

BEAT_SECONDS = 3.0
"""How often a holder shows that it lives."""
STALE_SECONDS = 20.0
"""A lease that was seen unchanged for so long is taken over."""
_POLL_SECONDS = 0.5
_MOST_REFUSALS = 10
"""So often a lease that nobody has is tried for: about a minute."""
_LONGEST_WAIT = 16
"""Between two of these tries, in polls."""


class _Lost(Exception):  # noqa: N818 - no error: somebody else goes on with the work
    """Another process has taken the lease over."""


class _Lease:
    """One process' view of the object."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key = bucket, key
        self._owner = uuid.uuid4().hex
        self._beat, self._etag = 0, ""

    def take(self, *, over: str | None = None) -> bool:
        """Take a lease that nobody has, or the one with that etag; False if somebody was faster."""
        data = self._next()
        with contextlib.suppress(PreconditionFailedError):
            self._etag = self._bucket.put(self._key, data, only_new=over is None, only_over=over)
        return self._is_ours()

    def beat(self) -> None:
        """Show that the holder lives. Raises _Lost."""
        if not self._is_ours():
            raise _Lost
        with contextlib.suppress(PreconditionFailedError):
            self._etag = self._bucket.put(self._key, self._next(), only_over=self._etag)

    def is_held(self) -> bool:
        """Whether it is this process'. The server is asked each time: no clock of a machine that was suspended tells
        how long it stood still.
        """
        return self._is_ours()

    def release(self) -> None:
        """Give it back, if it is still this process'."""
        if self._is_ours():
            self._bucket.delete([self._key])

    def _next(self) -> bytes:
        self._beat += 1
        who = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"owner": self._owner, "who": who, "beat": self._beat}).encode()

    def _is_ours(self) -> bool:
        """Asked of the object itself: an answer that was lost on its way leaves a write that counts."""
        found = _read(self._bucket, self._key)
        if found is None or self._owner not in found[0].decode(errors="replace"):
            return False
        self._etag = found[1]
        return True


@contextmanager
def hold(
    bucket: Bucket,
    key: str,
    *,
    waiting: Callable[[str], None] | None,
    check: Callable[[], None] | None,
    lost: Callable[[], None] | None,
) -> Iterator[Callable[[], bool]]:
    """Hold the lease while inside; see Store.lease."""
    lease = _Lease(bucket, key)
    with bucket.hurried_by(check):
        _acquire(lease, bucket, key, waiting, check)
        ended = threading.Event()
        thread = threading.Thread(target=_keep, args=(lease, ended, lost), name="lease", daemon=True)
        thread.start()
        try:
            yield lease.is_held
        finally:
            ended.set()
            if given_up() is None:  # else a beat may go on waiting for the server
                thread.join()
            with contextlib.suppress(OSError):  # left behind, it goes stale
                lease.release()


def _acquire(
    lease: _Lease,
    bucket: Bucket,
    key: str,
    waiting: Callable[[str], None] | None,
    check: Callable[[], None] | None,
) -> None:
    told, last, silence, looked, refusals = False, b"", 0.0, time.monotonic(), 0
    while True:
        found = _read(bucket, key)
        now = time.monotonic()
        if found is None:
            if lease.take():
                return
            refusals += 1  # somebody was faster and is done already, or the server contradicts itself
            if refusals > _MOST_REFUSALS:
                raise UnreachableError(
                    f"s3://{bucket.name}/{key}: nobody has this lease and yet it cannot be taken; the server answers "
                    "conditional writes as if it stood there: see docs/storage.md for what a server has to know"
                )
            last, silence = b"", 0.0
            if refusals == 1:
                continue  # most often somebody was faster: see who
        else:
            # A look that took long (the server was away, this process was stopped) says little about the holder.
            silence = silence + min(now - looked, 2 * _POLL_SECONDS) if found[0] == last else 0.0
            last, looked, refusals = found[0], now, 0
            if silence > STALE_SECONDS:
                if lease.take(over=found[1]):
                    return
                silence = 0.0
            if not told and waiting is not None:
                waiting(_who(found[0]))
            told = True
        if check is not None:
            check()
        time.sleep(_POLL_SECONDS * min(2**refusals, _LONGEST_WAIT))


def _keep(lease: _Lease, ended: threading.Event, lost: Callable[[], None] | None) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            lease.beat()
        except _Lost:
            if lost is not None:
                lost()
            return
        except OSError:
            continue  # the server is away: who saves next will say so


def holder(bucket: Bucket, key: str) -> str | None:
    """Who holds the lease: its object changes while one looks. None where there is none, or it stands still."""
    first = _read(bucket, key)
    deadline = time.monotonic() + 2 * BEAT_SECONDS
    while first is not None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS / 2)
        found = _read(bucket, key)
        if found is None:
            return None
        if found[0] != first[0]:
            return _who(found[0])
    return None


def _read(bucket: Bucket, key: str) -> tuple[bytes, str] | None:
    try:
        return bucket.get(key)
    except FileNotFoundError:
        return None


def _who(data: bytes) -> str:
    try:
        return str(json.loads(data)["who"])
    except (ValueError, KeyError, TypeError):
        return "another process"

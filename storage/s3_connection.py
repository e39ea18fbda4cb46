"""Requests to S3, or to a server that speaks its language: made through s3fs, repeated with growing pauses while the
server is away or overloaded, and given up with one line that says what did not answer.

Credentials, endpoint and region come from the environment alone, as botocore and fsspec read them.
"""

import asyncio
import errno
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from schemas.errors import CyborgsError, RunError, UnreachableError
from storage.s3_errors import (
    CREDENTIALS,
    GaveUpError,
    NotImplementedByServerError,
    PreconditionFailedError,
    explain,
    explain_local,
    one_line,
    transient_reason,
)

GIVE_UP_SECONDS = 180.0
"""How long one request is repeated."""
_HURRIED_SECONDS = 10.0
"""How long where somebody waits for this process to end: they give it 25 s before they kill it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 8.0
_QUIET_SECONDS = 4.0
"""An outage shorter than this is nobody's concern."""
_SLOWEST_BYTES_PER_SECOND = 250_000
_LEAST_SECONDS = 60
_KEYS_PER_DELETE = 1000
_TRANSIENT = (
    ConnectionError,
    HTTPClientError,
    ResponseParserError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    TimeoutError,
)

_opened: dict[int, S3FileSystem] = {}
"""One for each process: a forked child must not touch its parent's, nor collect it."""


@dataclass(frozen=True)
class Object:
    """What a listing says of an object."""

    key: str
    bytes: int
    etag: str
    """Changes with the content."""


def given_up() -> GaveUpError | None:
    """The error of a server that was given up, where this is called while that error is on its way to a person: from
    `finally`, from the end of a `with`.
    """
    error = sys.exception()
    return error if isinstance(error, GaveUpError) else None


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix, without slashes around it, of `s3://bucket/prefix`.

    Raises:
        RunError: the URL holds credentials, which would end up in files and logs, or names no bucket.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
        raise RunError(f"a URL s3://…@… or s3://…:…: credentials do not belong into a URL: set {CREDENTIALS}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise RunError(f"{url}: {bucket!r} is no name of a bucket; write s3://BUCKET/FOLDER")
    parts = [part for part in prefix.split("/") if part]
    if ".." in parts or "." in parts:
        raise RunError(f"{url}: {'..' if '..' in parts else '.'} has no meaning on S3; write the folder out")
    return bucket, "/".join(parts)


class Bucket:
    """A bucket, with the requests that are needed of it. Holds no connection: each process opens its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._check: Callable[[], None] | None = None

    @contextmanager
    def hurried_by(self, check: Callable[[], None] | None) -> Iterator[None]:
        """While inside, requests wait for a lost server for seconds only once `check` raises."""
        self._check = check
        try:
            yield
        finally:
            self._check = None

    def _is_hurried(self) -> bool:
        try:
            if self._check is not None:
                self._check()
        except CyborgsError:
            return True
        return False

    def get(self, key: str) -> tuple[bytes, str]:
        """Content and etag. Raises FileNotFoundError."""
        response = self._request("get_object", key)
        return response["Body"], response["ETag"]

    def put(self, key: str, data: bytes, *, only_new: bool = False, only_over: str | None = None) -> str:
        """Write an object, in one request; returns its etag.

        Args:
            only_new: where none stands.
            only_over: where the object with that etag stands.

        Raises:
            PreconditionFailedError: another one stands there, or none where one was expected.
        """
        conditions: dict[str, str] = {}
        if only_new:
            conditions["IfNoneMatch"] = "*"
        if only_over is not None:
            conditions["IfMatch"] = only_over
        try:
            return str(self._request("put_object", key, Body=data, **conditions)["ETag"])
        except FileNotFoundError:
            raise PreconditionFailedError(errno.ENOENT, os.strerror(errno.ENOENT), key) from None
        except NotImplementedByServerError:
            if not conditions:
                raise
            return self.put(key, data)

    def head(self, key: str) -> Object | None:
        """Size and etag, None where there is no such object."""
        try:
            response = self._request("head_object", key)
        except FileNotFoundError:
            return None
        return Object(key, int(response["ContentLength"]), response["ETag"])

    def list(self, prefix: str, *, at_most: int | None = None) -> Iterator[Object]:
        """All objects whose key begins so, by key, 1000 a request; the server is asked each time."""
        more: dict[str, Any] = {} if at_most is None else {"MaxKeys": at_most}
        while True:
            page = self._request("list_objects_v2", None, Prefix=prefix, **more)
            for entry in page.get("Contents", ()):
                yield Object(entry["Key"], int(entry["Size"]), entry["ETag"])
            if at_most is not None or not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        left = list(keys)
        for first in range(0, len(left), _KEYS_PER_DELETE):
            batch = [{"Key": key} for key in left[first : first + _KEYS_PER_DELETE]]
            answer = self._request("delete_objects", None, Delete={"Objects": batch, "Quiet": True})
            for failed in answer.get("Errors", ()):
                # One at a time: each then is repeated, or refused with its own line.
                self._request("delete_object", failed["Key"])

    def _request(self, operation: str, key: str | None, **given: Any) -> dict[str, Any]:
        if (lost := given_up()) is not None:
            raise lost  # cleaning up after it neither waits anew nor takes its place
        place = f"s3://{self.name}" + (f"/{key}" if key else "")
        arguments = given | {"Bucket": self.name} | ({} if key is None else {"Key": key})
        pause, started = _FIRST_PAUSE, time.monotonic()
        while True:
            try:
                response = _send(operation, arguments)
            except _TRANSIENT as error:
                if isinstance(error, SSLError):
                    raise UnreachableError(f"{place}: {one_line(error)}; see AWS_ENDPOINT_URL") from error
                reason = one_line(error)
            except ClientError as error:
                reason = transient_reason(error)
                if not reason:
                    raise explain(error, place, self.name) from error
            except (BotoCoreError, ValueError) as error:
                raise explain_local(error, place) from error
            else:
                _outage.over()
                return response
            waited = time.monotonic() - started
            if waited > GIVE_UP_SECONDS or (waited > _HURRIED_SECONDS and self._is_hurried()):
                raise GaveUpError(
                    f"{place}: no answer for {waited:.0f} s ({reason}); what was saved is kept, "
                    "the same command goes on from there"
                )
            _outage.goes_on(place, reason, waited)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)


class _Outage:
    """Tells a person, once, that a server is away and that it is being waited for."""

    def __init__(self) -> None:
        self._told = False

    def goes_on(self, place: str, reason: str, seconds: float) -> None:
        if seconds > _QUIET_SECONDS and not self._told:
            self._told = True
            print(
                f"{place}: no answer ({reason}); trying again for {GIVE_UP_SECONDS / 60:g} min",
                file=sys.stderr,
                flush=True,
            )

    def over(self) -> None:
        self._told = False


_outage = _Outage()


def _file_system() -> S3FileSystem:
    process = os.getpid()
    if process not in _opened:
        _opened[process] = S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            # Repeated here alone, or the bounds of three layers would multiply.
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": 10,
                "read_timeout": _LEAST_SECONDS,
                "max_pool_connections": 32,
            },
        )
    return _opened[process]


def _send(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    files = _file_system()
    response: dict[str, Any] = sync(files.loop, _answer, files, operation, arguments)
    return response


async def _answer(files: S3FileSystem, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    # The server's silence is bounded by the client; this bounds one that takes in nothing, or sends a byte a minute.
    async with asyncio.timeout(_most_seconds(len(arguments.get("Body", b"")))) as bound:
        client = await files.set_session()
        response: dict[str, Any] = await getattr(client, operation)(**arguments)
        if operation == "get_object":
            bound.reschedule(asyncio.get_running_loop().time() + _most_seconds(response["ContentLength"]))
            async with response["Body"] as body:
                response["Body"] = await body.read()
    return response


def _most_seconds(size: int) -> float:
    """How long a body of so many bytes may take."""
    return 2 * _LEAST_SECONDS + size / _SLOWEST_BYTES_PER_SECOND

"""What a server's refusal means, as an error whose one line says what to change."""

import errno
import os

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from schemas.errors import UnreachableError

_TRANSIENT_CODES = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "OperationAborted",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)
_CREDENTIAL_CODES = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class PreconditionFailedError(OSError):
    """A conditional write found another object than it was made for."""


class NotImplementedByServerError(UnreachableError):
    """The server does not know what was asked of it."""


class GaveUpError(UnreachableError):
    """A server did not answer for as long as one waits for it."""


def transient_reason(error: ClientError) -> str:
    """Why a request may be made again; empty where that would change nothing."""
    code, status = error.response["Error"].get("Code", ""), _status(error)
    if code in _TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501):
        return f"{status} {error.response['Error'].get('Message') or code}"
    return ""


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def explain(error: ClientError, place: str, bucket: str) -> Exception:
    """What a server's final answer means for the one who asked."""
    code, status = error.response["Error"].get("Code", ""), _status(error)
    if code == "NoSuchBucket":
        return UnreachableError(f"{place}: there is no bucket {bucket}: make it first, or see AWS_ENDPOINT_URL")
    if status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    if status == 412:
        return PreconditionFailedError(errno.EEXIST, os.strerror(errno.EEXIST), place)
    if status == 501:
        return NotImplementedByServerError(f"{place}: the server does not know this request: {one_line(error)}")
    if code in _CREDENTIAL_CODES:
        return UnreachableError(f"{place}: the credentials are not accepted ({code}): set {CREDENTIALS}")
    if status == 403:
        return UnreachableError(
            f"{place}: access denied: the credentials need ListBucket on the bucket, and GetObject, PutObject and "
            "DeleteObject below the run"
        )
    if status in (301, 307, 400) and (region := _region(error)):
        return UnreachableError(f"{place}: the bucket is in another region: set AWS_DEFAULT_REGION={region}")
    return UnreachableError(f"{place}: {one_line(error)}")


def _region(error: ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(error.response["Error"].get("Region") or headers.get("x-amz-bucket-region") or "")


def explain_local(error: Exception, place: str) -> UnreachableError:
    """Faults that are found before anything is sent."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return UnreachableError(f"{place}: {one_line(error)}: set {CREDENTIALS}; AWS_ENDPOINT_URL for other servers")
    return UnreachableError(f"{place}: {one_line(error)}; see AWS_ENDPOINT_URL and AWS_PROFILE")


def one_line(error: BaseException) -> str:
    """Its words, for the middle of a message."""
    words = " ".join(str(error).split())
    if not words and isinstance(error, TimeoutError):
        return "silent or too slow"
    return words or type(error).__name__

"""Digests of plain data: one canonical JSON form, one hash."""

import hashlib
import json
from typing import Any

DIGEST_BYTES = 16


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, and no NaN: the same text for the same value in every process."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_bytes(data: bytes | memoryview) -> str:
    """BLAKE2b of `data`, 128 bits, as 32 hexadecimal characters."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_json(value: Any) -> str:
    """Digest of a JSON-like value, independent of key order."""
    return digest_bytes(canonical_json(value).encode())


def seal(data: bytes) -> bytes:
    """`data` with its digest in front, as `unseal` takes it."""
    return digest_bytes(data).encode() + b"\n" + data


def unseal(sealed: bytes) -> bytes | None:
    """What `seal` was given; None where a byte of it is no longer what it was."""
    stated, data = sealed[: 2 * DIGEST_BYTES], memoryview(sealed)[2 * DIGEST_BYTES + 1 :]
    whole = sealed[2 * DIGEST_BYTES : 2 * DIGEST_BYTES + 1] == b"\n" and stated == digest_bytes(data).encode()
    return bytes(data) if whole else None

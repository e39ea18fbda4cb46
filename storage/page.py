"""The report's digest, in a comment at its end: a page that was damaged is drawn again."""

from schemas.digests import digest_bytes

_OPENING, _CLOSING = b"<!-- ", b" -->\n"


def mark(page: bytes) -> bytes:
    """The page with its digest."""
    return page + _OPENING + digest_bytes(page).encode() + _CLOSING


def unmark(marked: bytes) -> bytes | None:
    """The page without its digest; None where a byte of it is no longer what it was."""
    page, opening, rest = marked.rpartition(_OPENING)
    return page if opening and rest == digest_bytes(page).encode() + _CLOSING else None

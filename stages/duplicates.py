"""Photographs that are the same picture: byte by byte, or scaled and encoded again.

Each is reduced to 256 bits, each whether a cell of a 16 x 16 grey picture is brighter than its right neighbour
(difference hash); two copies differ in few of them, two photographs in about half.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.digests import digest_bytes
from schemas.errors import DataError
from storage.photographs import Limits, decode, inspect
from storage.sources import read_regular

SIDE = 16
NEAR = 24
"""Bits in which copies may differ. Half the size at JPEG quality 50 costs about 10; two of 539 photographs differ in
41 or more."""
FEWEST = 64
"""Bits that must be set and unset for a hash to tell anything: a sky is every other sky's copy otherwise."""
_CHUNK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """What a photograph is recognised by."""

    path: Path
    digest: str
    """Of the file."""
    bits: NDArray[np.uint64]
    """(4,) the difference hash."""


def fingerprints(paths: Sequence[Path]) -> tuple[list[Fingerprint], list[tuple[Path, str]]]:
    """Fingerprints of the photographs that decode to their end; the others with the reason."""
    found: list[Fingerprint] = []
    broken: list[tuple[Path, str]] = []
    with ThreadPoolExecutor() as pool:
        for path, result in zip(paths, pool.map(_fingerprint, paths), strict=True):
            if isinstance(result, Fingerprint):
                found.append(result)
            else:
                broken.append((path, result))
    return found, broken


def _fingerprint(path: Path) -> Fingerprint | str:
    try:
        data = read_regular(path)
        inspect(data, Limits())
        return Fingerprint(path, digest_bytes(data), difference_hash(decode(data)))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except DataError as error:
        return str(error)


def difference_hash(photograph: Image.Image) -> NDArray[np.uint64]:
    """(4,) uint64: 256 comparisons of neighbouring cells."""
    small = np.asarray(photograph.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)).astype(np.int16)
    return np.packbits(small[:, :-1] > small[:, 1:]).view(np.uint64)


def find_copies(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint] | None = None
) -> Iterator[tuple[Fingerprint, Fingerprint]]:
    """Pairs of the same picture: within `first`, or one of `first` and one of `second`."""
    others = first if second is None else second
    if not first or not others:
        return
    columns = np.stack([each.bits for each in others])
    telling = _telling(columns)
    for start in range(0, len(first), _CHUNK):
        rows = np.stack([each.bits for each in first[start : start + _CHUNK]])
        distance = np.zeros((len(rows), len(columns)), np.uint16)
        for word in range(rows.shape[1]):
            distance += np.bitwise_count(rows[:, word, None] ^ columns[None, :, word])
        near = (distance <= NEAR) & telling[None] & _telling(rows)[:, None]
        same = {each.digest for each in first[start : start + _CHUNK]} & {each.digest for each in others}
        for row, column in _pairs(near, first[start : start + _CHUNK], others, same):
            if second is not None or start + row < column:
                yield first[start + row], others[column]


def _telling(bits: NDArray[np.uint64]) -> NDArray[np.bool_]:
    ones = np.bitwise_count(bits).sum(axis=1)
    telling: NDArray[np.bool_] = (ones >= FEWEST) & (ones <= SIDE * SIDE - FEWEST)
    return telling


def _pairs(
    near: NDArray[np.bool_], rows: Sequence[Fingerprint], columns: Sequence[Fingerprint], same: set[str]
) -> list[tuple[int, int]]:
    """Places of near hashes, and of equal files, whose hash may tell nothing."""
    pairs = {(int(row), int(column)) for row, column in zip(*near.nonzero(), strict=True)}
    by_digest: dict[str, list[int]] = {}
    for column, each in enumerate(columns):
        if each.digest in same:
            by_digest.setdefault(each.digest, []).append(column)
    for row, each in enumerate(rows):
        pairs.update((row, column) for column in by_digest.get(each.digest, []))
    return sorted(pairs)

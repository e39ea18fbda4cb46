"""Photographs that are the same picture: byte by byte, or scaled and encoded again.

Each is reduced to 256 bits, each whether a cell of a 16 x 16 grey picture is brighter than its right neighbour
(difference hash); two copies differ in few of them, two photographs in about half. Among the billions of pairs of a
large folder a few agree by chance: those are held against each other as grey pictures of 32 x 32 too.
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
from storage.photographs import Limits, decode
from storage.sources import read_regular

SIDE = 16
NEAR = 24
"""Bits in which copies may differ. Half the size at JPEG quality 50 costs about 10; two of 539 photographs differ in
41 or more."""
FEWEST = 64
"""Bits that must be set and unset for a hash to tell anything: a sky is every other sky's copy otherwise."""
THUMBNAIL = 32
ALIKE = 0.95
"""Correlation of two copies' thumbnails, at least."""
_ROWS, _COLUMNS = 1024, 16384
"""Of a block of pairs: 270 MB."""


@dataclass(frozen=True)
class Fingerprint:
    """What a photograph is recognised by."""

    path: Path
    digest: str
    """Of the file."""
    bits: NDArray[np.uint64]
    """(4,) the difference hash."""
    thumbnail: NDArray[np.uint8]
    """(32, 32) grey."""


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
        grey = decode(data, Limits()).convert("L")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except DataError as error:
        return str(error)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    return Fingerprint(path, digest_bytes(data), difference_hash(grey), thumbnail)


def difference_hash(photograph: Image.Image) -> NDArray[np.uint64]:
    """(4,) uint64: 256 comparisons of neighbouring cells."""
    small = np.asarray(photograph.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)).astype(np.int16)
    return np.packbits(small[:, :-1] > small[:, 1:]).view(np.uint64)


def same_files(photographs: Sequence[Fingerprint]) -> list[list[Fingerprint]]:
    """Groups of two or more whose files are equal byte by byte."""
    groups: dict[str, list[Fingerprint]] = {}
    for each in photographs:
        groups.setdefault(each.digest, []).append(each)
    return [group for group in groups.values() if len(group) > 1]


def edited_copies(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint] | None = None
) -> Iterator[tuple[Fingerprint, Fingerprint]]:
    """Pairs of one picture in files that differ: within `first`, or one of `first` and one of `second`.

    Of files that are equal the first stands for all.
    """
    rows = _telling(first)
    columns = rows if second is None else _telling(second)
    if not rows or not columns:
        return
    row_bits, column_bits = (np.stack([each.bits for each in side]) for side in (rows, columns))
    for top in range(0, len(rows), _ROWS):
        for left in range(0, len(columns), _COLUMNS):
            if second is None and left + _COLUMNS <= top:
                continue  # each pair once
            for row, column in _near(row_bits[top : top + _ROWS], column_bits[left : left + _COLUMNS]):
                one, other = rows[top + row], columns[left + column]
                twice = second is None and left + column <= top + row
                if not twice and one.digest != other.digest and _alike(one.thumbnail, other.thumbnail):
                    yield one, other


def _telling(photographs: Sequence[Fingerprint]) -> list[Fingerprint]:
    """One of each file whose hash tells something."""
    firsts = {each.digest: each for each in reversed(photographs)}.values()
    found = {id(each) for each in firsts if FEWEST <= np.bitwise_count(each.bits).sum() <= SIDE * SIDE - FEWEST}
    return [each for each in photographs if id(each) in found]


def _near(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> list[tuple[int, int]]:
    distance = np.zeros((len(rows), len(columns)), np.uint16)
    for word in range(rows.shape[1]):
        distance += np.bitwise_count(rows[:, word, None] ^ columns[None, :, word])
    return [(int(row), int(column)) for row, column in zip(*(distance <= NEAR).nonzero(), strict=True)]


def _alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    return bool(np.corrcoef(first.ravel(), second.ravel())[0, 1] >= ALIKE)

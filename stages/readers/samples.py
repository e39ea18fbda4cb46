"""What the readers have in common: files below a data folder, samples read when asked for, and their digest."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyborgs.random_streams import stream
from schemas.digests import DIGEST_BYTES
from schemas.errors import DataError
from storage.photographs import Limits, check_size, decode
from storage.sources import SUFFIXES, read_regular

Sample = TypeVar("Sample")


class LazySamples(Generic[Sample]):
    """A sequence that reads each element from disk when it is asked for."""

    def __init__(self, items: list[str], read: Callable[[str], Sample]) -> None:
        self.items, self._read = items, read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Sample:
        return self._read(self.items[position])

    def of(self, rows: Sequence[int]) -> "LazySamples[Sample]":
        """Those of some rows."""
        return LazySamples([self.items[row] for row in rows], self._read)


@dataclass
class Split(Generic[Sample]):
    """Part of a data set."""

    samples: LazySamples[Sample]
    photographs: list[Path]
    """One per sample, in their order."""
    labels: list[Path]
    """Files that say what is on them."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What takes no part, such as "photographs without a label map in annotations" -> how many."""

    @property
    def files(self) -> list[Path]:
        """All that it reads."""
        return [*self.photographs, *self.labels]

    def of(self, rows: Sequence[int]) -> Self:
        """The part that some rows are."""
        return replace(self, samples=self.samples.of(rows), photographs=[self.photographs[row] for row in rows])


def random_share(count: int, share: float, *, seed: int, classes: Sequence[int] | None = None) -> list[int]:
    """Rows of a random share, at least one; of each class where these are given. A larger share holds a smaller one.

    Args:
        share: above 0, at most 1.
        classes: of each row.
    """
    order = stream("labels", seed).permutation(count).tolist()
    parts: dict[int, list[int]] = {}
    for row in order:
        parts.setdefault(classes[row] if classes is not None else 0, []).append(row)
    return sorted(row for part in parts.values() for row in part[: max(1, round(share * len(part)))])


def read_photograph(path: Path) -> Image.Image:
    """The photograph, RGB, upright.

    Raises:
        DataError: it is missing or does not decode.
    """
    try:
        return decode(read_regular(path), Limits())
    except OSError as error:
        raise DataError(f"--data: {path} cannot be read: {error.strerror}") from error
    except DataError as error:
        raise DataError(f"--data: {path}: {error}; remove it from the data set or replace it") from error


def read_label_map(path: Path) -> NDArray[np.int32]:
    """(H, W) values of a one-channel image file.

    Raises:
        DataError: it is missing, does not decode, or has colours.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            check_size(image, Limits())
            if image.mode not in ("L", "P", "I", "I;16", "1"):
                raise DataError(f"it is {image.mode}: a label map has one channel")
            return np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise DataError(f"--data: {path}: {error}") from error
        raise DataError(f"--data: {path} is no label map: {' '.join(str(error).split())}") from error


def check_same_size(labels: NDArray[np.int32], photograph: Image.Image, path: Path) -> None:
    """Raises DataError where a label map does not lie over its photograph."""
    if labels.shape != (photograph.height, photograph.width):
        raise DataError(
            f"--data: {path} has {labels.shape[1]} x {labels.shape[0]} pixels, "
            f"its photograph {photograph.width} x {photograph.height}"
        )


def need_folder(root: Path, *below: str, layout: str) -> Path:
    """The folder `root/below`.

    Raises:
        DataError: it is not there.
    """
    path = root.joinpath(*below)
    if not path.is_dir():
        beside = sorted(each.name for each in path.parent.iterdir() if each.is_dir()) if path.parent.is_dir() else []
        there = f"; there are {', '.join(beside[:5])}: choose a split by --set" if len(below) > 1 and beside else ""
        raise DataError(f"--data {root}: {layout} has a folder {path}, which is missing{there}")
    return path


def need_file(root: Path, *below: str, layout: str) -> Path:
    """The file `root/below`.

    Raises:
        DataError: it is not there.
    """
    path = root.joinpath(*below)
    if not path.is_file():
        raise DataError(f"--data {root}: {layout} has a file {path}, which is missing")
    return path


def photographs_below(folder: Path) -> dict[str, Path]:
    """Path below the folder without its suffix -> photograph, sorted."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


def plain_name(name: str, *, source: Path) -> str:
    """A file name that stays below its folder.

    Raises:
        DataError: it leads out of it.
    """
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        raise DataError(f"--data: {source} names {name!r}, which leads out of the data folder")
    return name


def files_digest(files: Iterable[Path]) -> str:
    """Digest over contents and names, each below the folder that holds all of them, in the order of the names."""
    paths = sorted(set(files))
    above = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with ThreadPoolExecutor() as pool:
        for path, content in zip(paths, pool.map(_content, paths), strict=True):
            hasher.update(f"{path.relative_to(above).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=DIGEST_BYTES).hexdigest()

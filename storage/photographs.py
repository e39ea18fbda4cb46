"""Photographs of a user: finding them, and reading one exactly as it was indexed.

Everything that reads pixels applies the EXIF orientation; sizes are those after it.
"""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from schemas.config import IndexConfig
from schemas.digests import digest_bytes, digest_json
from schemas.errors import DataError, PhotographChangedError, UnreachableError
from storage.coco import annotated_photographs, photograph_folder
from storage.demo_tiles import DEMO_TILES, demo_tiles_folder
from storage.sources import SUFFIXES, LocalFolder, PhotographFolder, open_folder

# index.max_megapixels is the limit, checked before any pixel is decoded; Pillow's own would warn or refuse earlier.
Image.MAX_IMAGE_PIXELS = None
# Of harmless flaws in EXIF data, several lines for each photograph.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")

_AT_ONCE = 16
_BYTES_PER_PIXEL = 8
"""Of 16-bit RGBA, uncompressed: nothing here is longer."""
_BYTES_BESIDE = 64_000_000
"""For EXIF data, colour profiles and thumbnails."""
_ORIENTATION_TAG = 0x0112
_TRANSPOSED = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class Candidate:
    """A file that may be a photograph."""

    source: int
    """Which of the run's data sources it is from, from 0."""
    key: str
    """Path below that source, with forward slashes."""
    bytes: int


@dataclass(frozen=True)
class Limits:
    """Sizes that a photograph may have."""

    min_side: int = 1
    """Pixels of the shorter side."""
    max_megapixels: float = 179.0

    @classmethod
    def of(cls, config: IndexConfig) -> "Limits":
        """As a run has them."""
        return cls(config.min_side, config.max_megapixels)


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    height: int
    width: int
    orientation: int


def source_folder(source: str) -> PhotographFolder:
    """The folder that the photographs of a data source lie in.

    A source is a folder, a COCO json (`instances.json`, or `instances.json=FOLDER`), each on a disk or on S3, or
    `demo-tiles`.

    Raises:
        DataError: it does not exist.
    """
    if source == DEMO_TILES:
        return LocalFolder(demo_tiles_folder())
    if is_annotation(source):
        return photograph_folder(source)
    folder = open_folder(source)
    if folder.exists():
        return folder
    if folder.is_file():
        raise DataError(f"--data {source}: this is a file; give a folder of photographs or a COCO .json")
    raise DataError(f"--data {source}: no such folder")


def list_candidates(sources: tuple[str, ...]) -> list[Candidate]:
    """All files that may be photographs, sorted by source and key. Looks at names and sizes alone.

    Raises:
        DataError: a source does not exist, cannot be listed, or holds no photograph.
    """
    found = []
    for number, source in enumerate(sources):
        folder = source_folder(source)
        if is_annotation(source):
            keys = annotated_photographs(source)
            # On S3 each asks the server.
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                of_source = [Candidate(number, *pair) for pair in zip(keys, pool.map(folder.size, keys), strict=True)]
        else:
            of_source = [Candidate(number, key, size) for key, size in folder.walk()]
        if not of_source:
            raise DataError(f"--data {source}: no photographs here ({', '.join(sorted(SUFFIXES))})")
        found.extend(of_source)
    return sorted(found, key=lambda candidate: (candidate.source, candidate.key))


def listing_digest(candidates: list[Candidate]) -> str:
    """Digest of the names and sizes of a list of photographs."""
    return digest_json([[c.source, encode_key(c.key), c.bytes] for c in candidates])


def read_candidate(folder: PhotographFolder, candidate: Candidate, limits: Limits) -> bytes:
    """The bytes of a file that may be a photograph; one that is far too long is not taken into memory.

    Raises:
        DataError: it is longer than a photograph within `limits` can be.
        OSError: it cannot be read.
    """
    most = limits.max_megapixels * 1e6 * _BYTES_PER_PIXEL + _BYTES_BESIDE
    if candidate.bytes > most:
        raise DataError(f"{candidate.bytes} bytes is more than a photograph of index.max_megapixels has")
    return folder.read(candidate.key)


def inspect(data: bytes, limits: Limits) -> Header:
    """Size and orientation of an encoded photograph, which is decoded to its end to see that it can be.

    Raises:
        DataError: it is not a photograph, does not decode, or is out of `limits`.
    """
    with _open(data) as image, _decoding():
        check_size(image, limits)
        if min(image.width, image.height) < limits.min_side:
            raise DataError(f"{image.width} x {image.height} pixels is less than index.min_side asks for")
        image.load()
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
        turned = orientation in _TRANSPOSED
        height, width = (image.width, image.height) if turned else (image.height, image.width)
        return Header(height, width, orientation if 1 <= orientation <= 8 else 1)


def check_size(image: Image.Image, limits: Limits) -> None:
    """Raises DataError where an image that was opened says that it has more pixels than may be decoded."""
    if image.width * image.height > limits.max_megapixels * 1e6:
        raise DataError(f"{image.width} x {image.height} pixels is more than index.max_megapixels allows")


def decode(data: bytes, limits: Limits | None = None) -> Image.Image:
    """Decode a photograph to RGB, upright; 16-bit grey keeps its brightness.

    Args:
        limits: of one that was not inspected.

    Raises:
        DataError: its bytes do not decode, or it is larger than `limits`.
    """
    with _open(data) as image, _decoding():
        if limits is not None:
            check_size(image, limits)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "RGB":
            return image  # with no copy, which costs a tenth of the decoding
        if image.mode.startswith("I"):
            grey = np.asarray(image).astype(np.int64) * 255 // 65535
            return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    # Pillow's decoders raise a wide range of errors on damaged files, SyntaxError among them.
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, struct.error) as error:
        raise DataError(f"does not decode: {_one_line(error)}") from error


def _open(data: bytes) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError(f"not a photograph: {_one_line(error)}") from error
    return image


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return "unknown format" if "cannot identify image file" in text else text or type(error).__name__


class PhotographReader:
    """Reads row i of the index: the file must still be the one that was indexed.

    Picklable, so that loader processes can hold one.
    """

    def __init__(
        self, folders: list[PhotographFolder], sources: list[int], keys: list[str], digests: list[str]
    ) -> None:
        self._folders, self._sources, self._keys, self._digests = folders, sources, keys, digests

    def __len__(self) -> int:
        return len(self._keys)

    def __call__(self, row: int) -> Image.Image:
        """The photograph, RGB, upright.

        Raises:
            PhotographChangedError: it is gone or its bytes are not those that were indexed.
            UnreachableError: the storage that it is on does not answer.
        """
        folder, key = self._folders[self._sources[row]], self._keys[row]
        try:
            data = folder.read(key)
        except UnreachableError:
            raise  # which says nothing of this photograph
        except OSError as error:
            raise PhotographChangedError(
                f"photograph {folder.place(key)} (row {row}) cannot be read: {error.strerror}; "
                "if the photographs have moved, say where with --data"
            ) from error
        if digest_bytes(data) != self._digests[row]:
            raise PhotographChangedError(
                f"photograph {folder.place(key)} (row {row}) has changed since it was indexed; "
                "put the old file back, or start a new run"
            )
        return decode(data)


def encode_key(key: str) -> str:
    """A file name as printable text, also where its bytes are not UTF-8."""
    return os.fsencode(key).decode("utf-8", "backslashreplace")


def is_annotation(source: str) -> bool:
    """Whether it names a COCO json; a folder may have `=` in its name."""
    return source.split("=")[0].lower().endswith(".json")


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    return digest_bytes(path.read_bytes())

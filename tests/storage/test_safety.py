"""Files that mean harm: nothing of theirs is executed, and what they take is bounded."""

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from schemas.errors import ConfigError, DataError
from storage.cache import cache_folder
from storage.checkpoints import decode_tensors, read_start_weights
from storage.mask_cache import pack_masks
from storage.photographs import Candidate, Limits, inspect, read_candidate
from storage.sources import LocalFolder
from tests.storage.samples import encoded, photograph


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The file that `Harm` makes."""
    return tmp_path / "executed"


def test_the_harm_of_these_tests_is_real(trace: Path) -> None:
    pickle.loads(pickle.dumps(Harm(trace)))
    assert trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("inside", [lambda harm: harm, lambda harm: {"conv1.weight": harm}])
def test_start_weights_are_never_unpickled(tmp_path: Path, trace: Path, suffix: str, inside: Any) -> None:
    file = tmp_path / f"weights{suffix}"
    torch.save(inside(Harm(trace)), file)
    with pytest.raises(ConfigError) as caught:
        read_start_weights(file)
    assert not trace.exists()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_never_unpickled(trace: Path) -> None:
    for data in (pickle.dumps(Harm(trace)), (8).to_bytes(8, "little") + pickle.dumps(Harm(trace))):
        with pytest.raises((SafetensorError, ValueError)):
            decode_tensors(data)
    assert not trace.exists()


def test_the_cache_of_masks_is_never_unpickled(tmp_path: Path, trace: Path) -> None:
    folder = cache_folder() / "masks"
    folder.mkdir()
    (folder / "x.labels").write_bytes(b"")
    np.save(folder / "x.shapes.npy", np.array([Harm(trace)], object), allow_pickle=True)
    with pytest.raises((ValueError, OSError)):
        pack_masks(tmp_path / "none", name="x")
    assert not trace.exists()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG of 8-bit RGB whose header says that size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def test_a_bomb_of_pixels_is_refused_by_its_header() -> None:
    """30 kB that decode to 30 MB, ten times the limit."""
    bomb = png(10_000, 1000, chunk(b"IDAT", zlib.compress(b"\0" * (1000 * 30_001))))
    assert len(bomb) < 40_000
    with pytest.raises(DataError, match="10000 x 1000 pixels is more than index.max_megapixels"):
        inspect(bomb, Limits(max_megapixels=1.0))


def test_more_pixels_than_the_header_says_are_never_decoded() -> None:
    lying = png(4, 4, chunk(b"IDAT", zlib.compress(b"\0" * 30_000_000)))
    header = inspect(lying, Limits(max_megapixels=1.0))
    assert (header.height, header.width) == (4, 4)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_of_text_is_refused(kind: bytes) -> None:
    bomb = chunk(kind, b"name\0\0" + zlib.compress(b"x" * 200_000_000))
    with pytest.raises(DataError, match="does not decode|not a photograph"):
        inspect(png(1, 1, bomb, chunk(b"IDAT", zlib.compress(b"\0" * 4))), Limits())


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "giant.png"
    with file.open("wb") as out:
        out.write(encoded(photograph()))
        out.truncate(200_000_000)
    candidate = Candidate(0, file.name, file.stat().st_size)
    with pytest.raises(DataError, match="200000000 bytes is more than a photograph of index.max_megapixels has"):
        read_candidate(LocalFolder(tmp_path), candidate, Limits(max_megapixels=10))
    assert len(read_candidate(LocalFolder(tmp_path), candidate, Limits(max_megapixels=20))) == candidate.bytes

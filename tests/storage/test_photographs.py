"""Finding photographs, and reading them upright, exactly as they were indexed."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.digests import digest_bytes
from schemas.errors import DataError, PhotographChangedError
from storage.photographs import (
    Candidate,
    Limits,
    PhotographReader,
    decode,
    encode_key,
    file_digest,
    inspect,
    list_candidates,
    listing_digest,
    read_candidate,
    source_folder,
)
from storage.sources import LocalFolder
from tests.storage.samples import encoded, make_photographs, photograph

ORIENTATION = 0x0112


def keys(*sources: Path) -> list[tuple[int, str]]:
    return [(found.source, found.key) for found in list_candidates(tuple(str(source) for source in sources))]


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


def test_photographs_are_found_at_any_depth_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    wanted = ["a.jpg", "b/c.JPEG", "b/d/e/f.Png", "b/g.webP", "z.JPG"]
    put(tmp_path, *wanted, "notes.txt", "a.jpg.txt", "jpg", "movie.mp4")
    assert keys(tmp_path) == [(0, key) for key in sorted(wanted)]


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "longer.jpg")
    assert [found.bytes for found in list_candidates((str(tmp_path),))] == [5, 10]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, ".a.jpg", "._b.jpg", ".cache/c.jpg", "d/.e/f.jpg", "g.jpg")
    assert keys(tmp_path) == [(0, "g.jpg")]


def test_a_hidden_folder_that_is_asked_for_is_searched(tmp_path: Path) -> None:
    put(tmp_path / ".data", "a.jpg")
    assert keys(tmp_path / ".data") == [(0, "a.jpg")]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    data = put(tmp_path / "data", "a.jpg", "b/c.jpg")
    put(tmp_path / "elsewhere", "d.jpg")
    (data / "up").symlink_to(tmp_path / "data")
    (data / "b" / "up").symlink_to("..")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    assert keys(data) == [(0, "a.jpg"), (0, "b/c.jpg"), (0, "link/d.jpg")]


@pytest.mark.parametrize("name", ["self", "self.jpg"])
def test_a_link_to_itself_does_not_stop_the_search(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / name).symlink_to(name)
    assert (0, "a.jpg") in keys(tmp_path)


def test_a_dangling_link_is_listed_for_the_quarantine(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert [(c.key, c.bytes) for c in list_candidates((str(tmp_path),))] == [("a.jpg", 5), ("gone.jpg", -1)]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_would_never_end_is_named_and_not_read(tmp_path: Path, kind: str) -> None:
    """As a link in a folder, and by itself where a COCO json names it."""
    put(tmp_path / "data", "a.jpg")
    odd = tmp_path / "pipe.png" if kind == "pipe" else Path("/dev/zero")
    if kind == "pipe":
        os.mkfifo(odd)
    (tmp_path / "data" / "odd.png").symlink_to(odd)
    found = list_candidates((str(tmp_path / "data"),))
    assert [(c.key, c.bytes) for c in found] == [("a.jpg", 5), ("odd.png", -1)]
    for folder, key in ((LocalFolder(tmp_path / "data"), "odd.png"), (LocalFolder(odd.parent), odd.name)):
        assert folder.size(key) == -1
        with pytest.raises(OSError, match="not a regular file"):
            read_candidate(folder, Candidate(0, key, -1), Limits())
        with pytest.raises(PhotographChangedError, match="cannot be read: it is not a regular file"):
            PhotographReader([folder], [0], [key], ["0" * 32])(0)


def test_several_sources_keep_the_order_they_were_given_in(tmp_path: Path) -> None:
    put(tmp_path, "z/a.jpg", "z/b.jpg", "y/a.jpg")
    assert keys(tmp_path / "z", tmp_path / "y") == [(0, "a.jpg"), (0, "b.jpg"), (1, "a.jpg")]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "no such folder"), ("file", "this is a file"), ("empty", "no photographs here")],
)
def test_a_source_without_photographs_is_named(tmp_path: Path, name: str, message: str) -> None:
    put(tmp_path, "file", "empty/notes.txt")
    with pytest.raises(DataError, match=message) as caught:
        list_candidates((str(put(tmp_path / "good", "a.jpg")), str(tmp_path / name)))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_listing_digest_follows_names_and_sizes(tmp_path: Path) -> None:
    def digest() -> str:
        return listing_digest(list_candidates((str(tmp_path),)))

    put(tmp_path, "a.jpg", "b.jpg")
    first = digest()
    (tmp_path / "a.jpg").write_bytes(b"other")  # as long as before
    assert digest() == first
    (tmp_path / "a.jpg").write_bytes(b"longer than before")
    second = digest()
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    assert len({first, second, digest()}) == 3


def test_a_name_that_is_not_utf8_is_found_read_and_digested(tmp_path: Path) -> None:
    data = encoded(photograph(), "png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(data)
    (found,) = list_candidates((str(tmp_path),))
    assert os.fsencode(found.key) == b"caf\xe9.png"
    assert encode_key(found.key) == "caf\\xe9.png"
    encode_key(found.key).encode("ascii")
    assert len(listing_digest([found])) == 32
    reader = PhotographReader([LocalFolder(tmp_path)], [0], [found.key], [digest_bytes(data)])
    np.testing.assert_array_equal(reader(0), photograph())


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""EXIF orientation: what turns the stored pixels upright (EXIF 2.3, 4.6.4 A)."""


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, suffix: str) -> None:
    stored = photograph(width=5, height=3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(stored, suffix, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = np.asarray(decode(data))
    np.testing.assert_array_equal(upright, UPRIGHT[orientation](np.asarray(stored)))
    header = inspect(data, Limits(max_megapixels=100e-6))
    assert (header.height, header.width) == upright.shape[:2]
    assert header.orientation == orientation


def test_a_jpeg_from_a_turned_camera_is_upright_too() -> None:
    """Left half dark; turned by 90 degrees clockwise the upper half is."""
    stored = Image.new("RGB", (32, 16), "white")
    stored.paste("black", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(stored, "jpg", exif=exif)
    grey = np.asarray(decode(data).convert("L"))
    assert grey.shape == (32, 16)
    assert grey[:15].max() < 64
    assert grey[17:].min() > 192
    assert (
        inspect(data, Limits(max_megapixels=512e-6)).height,
        inspect(data, Limits(max_megapixels=512e-6)).width,
    ) == (32, 16)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_taken_for_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(photograph(), exif=exif)
    np.testing.assert_array_equal(decode(data), photograph())
    assert inspect(data, Limits(max_megapixels=100e-6)).orientation == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = decode(encoded(Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)))
    assert image.mode == "RGB"
    assert np.asarray(image).min() == 255


def test_sixteen_bits_keep_their_brightness() -> None:
    """Depth, infrared and industrial cameras write such files: 32768 of 65535 is a middle grey, not white."""
    image = decode(encoded(Image.fromarray(np.full((3, 4), 32768, np.uint16))))
    assert np.asarray(image).max() == pytest.approx(128, abs=1)


BROKEN = {
    "text": b"this is no photograph",
    "empty": b"",
    "cut png": encoded(photograph(width=40, height=40))[:900],
    "cut jpg": encoded(photograph(width=40, height=40), "jpg")[:900],
    "cut webp": encoded(photograph(width=40, height=40), "webp")[:300],
    "html": b"<html><body>404 Not Found</body></html>",
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_does_not_decode_is_a_data_error(name: str) -> None:
    with pytest.raises(DataError) as caught:
        decode(BROKEN[name])
    assert "\n" not in str(caught.value)
    assert "None" not in str(caught.value)


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_header_is_read_or_refused_with_a_data_error(name: str) -> None:
    try:
        header = inspect(BROKEN[name], Limits(max_megapixels=2000e-6))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert (header.height, header.width) == (40, 40)


@pytest.mark.parametrize("content", [b"MMn*\0\0\0\x08", b"garbage", b""])
def test_broken_exif_never_escapes_as_another_error(content: bytes) -> None:
    data = encoded(photograph(), "webp", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    start = data.index(b"MM\0*")
    data = data[:start] + content.ljust(14, b"\0")[:14] + data[start + 14 :]
    for read in (decode, lambda encoded: inspect(encoded, Limits(max_megapixels=100e-6))):
        try:
            read(data)
        except DataError as error:
            assert "\n" not in str(error)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims that size, with no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(11, 10), (20_000, 20_000)])
def test_more_pixels_than_allowed_are_refused_unread(width: int, height: int) -> None:
    with pytest.raises(DataError, match=f"{width} x {height} pixels .*index.max_megapixels"):
        inspect(png_of(width, height), Limits(max_megapixels=100e-6))


def test_less_than_the_smallest_side_is_refused() -> None:
    limits = Limits(min_side=10)
    assert inspect(encoded(photograph(width=12, height=10)), limits).height == 10
    with pytest.raises(DataError, match=r"12 x 9 pixels .*index\.min_side"):
        inspect(encoded(photograph(width=12, height=9)), limits)


def test_as_many_pixels_as_allowed_are_read() -> None:
    assert inspect(encoded(photograph(width=10, height=10)), Limits(max_megapixels=100e-6)).width == 10


@pytest.mark.parametrize(("allowed", "side"), [(179, 10_000), (500, 20_000)])
def test_the_setting_alone_decides_what_is_too_large(allowed: int, side: int) -> None:
    """Pillow has a limit of its own, at which it warns, and another, at which it refuses.

    The file has no pixels: it may be refused for that, and for nothing else.
    """
    try:
        inspect(png_of(side, side), Limits(max_megapixels=allowed))
    except DataError as error:
        assert "limit" not in str(error)
        assert "bomb" not in str(error)


def reader_of(folder: Path) -> PhotographReader:
    found = list_candidates((str(folder),))
    digests = [file_digest(folder / c.key) for c in found]
    return PhotographReader([LocalFolder(folder)], [c.source for c in found], [c.key for c in found], digests)


def test_the_reader_gives_the_pixels_of_its_row_also_after_pickling(tmp_path: Path) -> None:
    reader = reader_of(make_photographs(tmp_path, 3))
    for each in (reader, pickle.loads(pickle.dumps(reader))):
        assert len(each) == 3
        for row in (2, 0, 1):
            np.testing.assert_array_equal(each(row), photograph(row, width=40, height=32))


def test_the_reader_looks_in_the_folder_of_the_rows_source(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(encoded(photograph(number)))
    digests = [file_digest(tmp_path / name / "0.png") for name in ("b", "a")]
    reader = PhotographReader(
        [LocalFolder(tmp_path / "a"), LocalFolder(tmp_path / "b")], [1, 0], ["0.png", "0.png"], digests
    )
    np.testing.assert_array_equal(reader(0), photograph(1))
    np.testing.assert_array_equal(reader(1), photograph(0))


def test_a_photograph_that_changed_is_refused(tmp_path: Path) -> None:
    reader = reader_of(make_photographs(tmp_path, 2))
    (tmp_path / "1.png").write_bytes(encoded(photograph(9)))
    reader(0)
    with pytest.raises(PhotographChangedError, match=r"1\.png \(row 1\) has changed") as caught:
        reader(1)
    assert "\n" not in str(caught.value)


def test_a_photograph_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    reader = reader_of(make_photographs(tmp_path, 2))
    (tmp_path / "1.png").unlink()
    with pytest.raises(PhotographChangedError, match=r"1\.png \(row 1\) cannot be read: No such file.*--data"):
        reader(1)


def test_source_folder_expands_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    assert source_folder("~/pictures") == LocalFolder(tmp_path / "pictures")

"""Photographs to measure on."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.photographs import SAMPLE_DATA, SIZES, generate, take_photographs


def test_generated_ones_have_cocos_sizes_and_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COCO photograph of 640 x 480 has about 160 kB: a decoder's work follows the bytes."""
    monkeypatch.delenv(SAMPLE_DATA, raising=False)
    taken = take_photographs(tmp_path, len(SIZES))
    files = taken.files()
    assert len(files) == len(SIZES)
    sizes = []
    for file in files:
        with Image.open(file) as image:
            sizes.append(image.size)
            per_pixel = file.stat().st_size / (image.width * image.height)
        assert 0.35 < per_pixel < 0.75
    assert Counter(sizes) == Counter(SIZES)
    assert generate(3).tobytes() == generate(3).tobytes() != generate(4).resize(generate(3).size).tobytes()


def test_sample_data_is_copied_and_too_little_of_it_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, number in (("val2017", 5), ("train2017", 3), ("train2017", 7)):
        folder = tmp_path / "data" / "coco-mini" / split
        folder.mkdir(parents=True, exist_ok=True)
        generate(number).resize((8, 8)).save(folder / f"{number:012d}.jpg")
    monkeypatch.setenv(SAMPLE_DATA, str(tmp_path / "data"))
    taken = take_photographs(tmp_path / "work", 2)
    assert [file.stem.lstrip("0") for file in taken.files()] == ["3", "5"]
    assert taken.kind == "COCO photographs"
    with pytest.raises(ValueError, match="holds 3 photographs, 4 are needed"):
        take_photographs(tmp_path / "work", 4)

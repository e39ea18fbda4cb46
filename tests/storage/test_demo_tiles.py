"""The photographs of the first look."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.demo_tiles import DEMO_TILES, demo_tiles_folder
from storage.photographs import list_candidates, listing_digest, source_folder
from storage.sources import LocalFolder
from tests.storage.samples import snapshot


def test_a_few_dozen_tiles_the_same_each_time(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = demo_tiles_folder()
    assert folder.is_relative_to(cache)
    assert [path.name for path in cache.iterdir()] == [folder.name], "something is left beside it"
    tiles = sorted(folder.iterdir())
    assert 24 <= len(tiles) <= 99
    for tile in tiles:
        with Image.open(tile) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert 96 <= min(image.size) <= max(image.size) <= 288, "demo.yaml: crops of 96, no larger than max_side"
            assert np.asarray(image).std() > 0
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "second"))
    assert snapshot(demo_tiles_folder()) == snapshot(folder)
    stamps = {tile: tile.stat().st_mtime_ns for tile in tiles}
    monkeypatch.setenv("CYBORGS_CACHE", str(cache))
    assert demo_tiles_folder() == folder
    assert {tile: tile.stat().st_mtime_ns for tile in tiles} == stamps, "made once"
    assert source_folder(DEMO_TILES) == LocalFolder(folder)
    assert len(listing_digest(list_candidates((DEMO_TILES,)))) == 32
    assert len(list_candidates((DEMO_TILES,))) == len(tiles)


def test_no_tile_comes_twice() -> None:
    pictures = [path.read_bytes() for path in demo_tiles_folder().iterdir()]
    assert len(set(pictures)) == len(pictures)

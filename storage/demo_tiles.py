"""Photographs for a first look, without a download: those inside scikit-image and scikit-learn, cut into tiles."""

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from schemas.digests import digest_json
from storage.cache import cache_folder

DEMO_TILES = "demo-tiles"
"""The name of this data source."""

_SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
_SKLEARN = ("china.jpg", "flower.jpg")
_TILE = 176
_SMALLEST_SIDE = 140


def demo_tiles_folder() -> Path:
    """A folder with the tiles, made on first use in the cache: a few dozen PNG files of at most 176 pixels a side."""
    recipe = digest_json([_SKIMAGE, _SKLEARN, _TILE, _SMALLEST_SIDE])[:8]
    folder = cache_folder() / f"{DEMO_TILES}-{recipe}"
    if folder.is_dir():
        return folder
    aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        for path in _shipped_photographs():
            _cut(path, aside)
        aside.chmod(0o755)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its tiles are the same
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _shipped_photographs() -> list[Path]:
    paths: list[Path] = []
    for package, inside, names in (
        ("skimage", "data", _SKIMAGE),
        ("sklearn", "datasets/images", _SKLEARN),
    ):
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is a dependency"
        paths.extend(Path(spec.origin).parent / inside / name for name in names)
    return paths


def _cut(path: Path, folder: Path) -> None:
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    columns, rows = photograph.width // _SMALLEST_SIDE, photograph.height // _SMALLEST_SIDE
    for row in range(rows):
        for column in range(columns):
            left = column * photograph.width // columns
            top = row * photograph.height // rows
            right, bottom = min(left + _TILE, photograph.width), min(top + _TILE, photograph.height)
            photograph.crop((left, top, right, bottom)).save(folder / f"{path.stem}-{row}-{column}.png")

"""Masks that do not come from the encoder: each source as a function from a photograph to its label map (Fig. 5a)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyborgs.clustering.bootstrap import fitted_size
from cyborgs.mask_sources.partitions import Labels, felzenszwalb_regions, grid, numbered
from cyborgs.mask_sources.selective_search import painted, search_boxes
from cyborgs.random_streams import stream_seed
from schemas.errors import ConfigError, DataError
from schemas.masks import MasksConfig
from stages.context import Context
from stages.readers.coco_objects import check_size_said, paint, parse_objects, read_objects
from stages.readers.samples import read_label_map
from storage.given_masks import given_digest
from storage.index import Photograph, content_digest, photographs_of_content
from storage.masks import count_rows, is_store, read_index, read_rows

Found = TypeVar("Found", str, Path)
Read = Callable[[], NDArray[np.int32]]
"""Reads the regions of one photograph, at any size of its shape."""


@dataclass(frozen=True)
class FixedMasks:
    """A source, opened."""

    grid: Callable[[int], tuple[int, int]]
    """Row -> height and width of its map."""
    labels: Callable[[int, Image.Image | None], Labels]
    """(row, photograph brought to masks.max_side) -> its map."""
    needs_pixels: bool = False


def open_source(context: Context, photographs: list[Photograph]) -> FixedMasks:
    """The source that the run was told.

    Raises:
        CyborgsError: it is gone, has changed, or does not fit the photographs.
    """
    config = context.config.masks
    if config.source in ("whole-image", "grid"):
        labels = grid(config.grid_cells if config.source == "grid" else 1)
        return FixedMasks(lambda _: labels.shape, lambda *_: labels)
    if config.source in ("felzenszwalb", "selective-search"):
        return _of_pixels(config, photographs, seed=context.config.seed)
    return _of_files(context, photographs)


def _of_files(context: Context, photographs: list[Photograph]) -> FixedMasks:
    """Masks that a person gives; where several paths know a photograph the first one counts."""
    paths, max_side = _given(context), context.config.masks.max_side
    found: list[Read | None] = [None] * len(photographs)
    for path in paths:
        reads = (
            _stored(path, photographs)
            if is_store(path)
            else (_drawn if path.is_dir() else _annotated)(path, photographs)
        )
        if not any(reads):
            raise DataError(
                f"masks.source_paths {path}: no masks of any photograph of the run, such as {photographs[0].key}"
            )
        found = [before or read for before, read in zip(found, reads, strict=True)]
    lacking = sum(read is None for read in found)
    if lacking:
        context.warn(f"masks.source_paths: {lacking} photographs have no masks there; each of those is one region")

    def labels(row: int, _: Image.Image | None) -> Labels:
        height, width = _fitted(photographs[row], max_side)
        read = found[row]
        if read is None:
            return np.zeros((height, width), np.uint8)
        small = Image.fromarray(read(), mode="I").resize((width, height), Image.Resampling.NEAREST)
        return numbered(np.asarray(small))

    return FixedMasks(lambda row: _fitted(photographs[row], max_side), labels)


def _fitted(photograph: Photograph, max_side: int) -> tuple[int, int]:
    width, height = fitted_size(photograph.width, photograph.height, max_side)
    return height, width


def _of_pixels(config: MasksConfig, photographs: list[Photograph], *, seed: int) -> FixedMasks:
    def labels(row: int, image: Image.Image | None) -> Labels:
        assert image is not None
        if config.source == "felzenszwalb":
            return felzenszwalb_regions(
                image,
                scale=config.felzenszwalb_scale,
                sigma=config.felzenszwalb_sigma,
                min_size=config.felzenszwalb_min_size,
            )
        boxes = search_boxes(
            image,
            most=config.search_boxes,
            min_share=config.search_min_share,
            seed=stream_seed("selective-search", seed, photographs[row].digest),
        )
        return painted(boxes, image.height, image.width)

    return FixedMasks(lambda row: _fitted(photographs[row], config.max_side), labels, needs_pixels=True)


def _given(context: Context) -> list[Path]:
    """Where the masks are that the run was given.

    Raises:
        ConfigError: they are gone or have changed since.
    """
    paths = [Path(path) for path in context.run.record.masks]
    gone = [path for path in paths if not path.exists()]
    if gone:
        raise ConfigError(f"masks.source_paths {gone[0]}: gone since the run was created; put it back")
    if given_digest(paths) != context.run.record.pins.get("masks"):
        raise ConfigError(
            f"masks.source_paths {' '.join(map(str, paths))}: changed since the run was created; put them back"
        )
    return paths


def _annotated(file: Path, photographs: list[Photograph]) -> list[Read | None]:
    parsed = parse_objects(file, shapes=True)
    by_name: dict[str, list[str]] = {}
    for name in parsed.images:
        by_name.setdefault(PurePosixPath(name).name, []).append(name)

    def by_path(key: PurePosixPath) -> str | None:
        return str(key) if str(key) in parsed.images else None

    def reading(photograph: Photograph, name: str | None) -> Read | None:
        if name is None or name not in parsed.annotations:
            return None
        size = (photograph.height, photograph.width)
        check_size_said(parsed, name, size, Path(photograph.key), file)

        def read() -> NDArray[np.int32]:
            painting = paint(read_objects(parsed.annotations[name], size, file))
            return np.maximum(painting, 0)

        return read

    names = _matched(photographs, by_path, lambda key: by_name.get(key.name, []), file)
    return [reading(photograph, name) for photograph, name in zip(photographs, names, strict=True)]


def _drawn(folder: Path, photographs: list[Photograph]) -> list[Read | None]:
    def find(stem: PurePosixPath) -> Path | None:
        # Berkeley's annotators are numbered, from 0 or from 1.
        places = [folder / f"{stem}{end}" for end in (".png", "_0.png", "_1.png")]
        return next((each for each in places if each.is_file()), None)

    def reading(photograph: Photograph, place: Path | None) -> Read | None:
        if place is None:
            return None

        def read() -> NDArray[np.int32]:
            labels = read_label_map(place)
            if labels.shape != (photograph.height, photograph.width):
                raise DataError(
                    f"masks.source_paths {place}: {labels.shape[1]} x {labels.shape[0]} pixels, its photograph has "
                    f"{photograph.width} x {photograph.height}"
                )
            return labels

        return read

    def by_bare_name(key: PurePosixPath) -> list[Path]:
        place = find(PurePosixPath(key.stem))
        return [place] if place is not None else []

    places = _matched(photographs, lambda key: find(key.with_suffix("")), by_bare_name, folder)
    return [reading(photograph, place) for photograph, place in zip(photographs, places, strict=True)]


def _matched(
    photographs: list[Photograph],
    by_path: Callable[[PurePosixPath], Found | None],
    by_bare_name: Callable[[PurePosixPath], list[Found]],
    path: Path,
) -> list[Found | None]:
    """What each photograph finds by its path, else by its bare name among what no other has by its path.

    Raises:
        DataError: one photograph finds several, or several photographs find one.
    """
    keys = [PurePosixPath(photograph.key) for photograph in photographs]
    found = [by_path(key) for key in keys]
    owned = set(found)
    finders: dict[Found, Photograph] = {}
    for row, (key, photograph) in enumerate(zip(keys, photographs, strict=True)):
        each = found[row]
        if each is None:
            left = [other for other in by_bare_name(key) if other not in owned]
            if len(left) > 1:
                raise DataError(
                    f"masks.source_paths {path}: {key} may be {left[0]} or {left[1]}; name masks by the photographs' "
                    "paths below the data folder"
                )
            found[row] = each = left[0] if left else None
        if each is not None and finders.setdefault(each, photograph).digest != photograph.digest:
            raise DataError(
                f"masks.source_paths {path}: {each} may be of {finders[each].key} or of {key}; name masks by the "
                "photographs' paths below the data folder, and no two photographs alike"
            )
    return found


def _stored(path: Path, photographs: list[Photograph]) -> list[Read | None]:
    """By what photographs are, not by where they stand: a seed shuffles the index, and sizes are often all the same."""
    index = read_index(path)
    held = photographs if index == content_digest(photographs) else photographs_of_content(path, index)
    if held is None:
        raise DataError(
            f"masks.source_paths {path}: a mask store of another index, and nothing beside it says which photographs "
            "it holds; name it inside its run (RUN/cycle-000/masks.zarr), whose index tells"
        )
    if count_rows(path) != len(held):
        raise DataError(f"masks.source_paths {path}: {count_rows(path)} rows, its index has {len(held)} photographs")
    rows = {photograph.digest: row for row, photograph in enumerate(held)}

    def find(photograph: Photograph) -> Read | None:
        row = rows.get(photograph.digest)
        if row is None:
            return None

        def read() -> NDArray[np.int32]:
            return next(masks.labels for _, masks in read_rows(path, range(row, row + 1))).astype(np.int32)

        return read

    return [find(photograph) for photograph in photographs]

"""`cyborgs masks export`: a cycle's masks as pictures, a COCO json, or arrays."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coder

from cyborgs.colours import label_colours
from cyborgs.evaluation.mask_quality import at_size
from schemas.errors import ConfigError, MachineError
from stages.run_masks import CycleMasks, cycle_masks
from storage.masks import MaskRow, read_rows
from storage.photographs import encode_key
from storage.run import Run

FORMATS = ("png", "coco", "npy")


def export_masks(run: Run, cycle: int, form: str, out: Path) -> int:
    """Write all masks of a cycle; returns how many photographs.

    png: a folder of label maps at the photographs' sizes, coloured by a palette, values are the labels.
    coco: one json with a run-length encoded annotation per region, at the photographs' sizes.
    npy: a folder of (h, w) uint8 arrays on the feature grid, as they are stored.

    Files are named like their photographs, with the suffix after them: `holiday/7.jpg.png`.

    Raises:
        CyborgsError: an unknown format, a place that cannot be written to, or masks that are not made.
    """
    writers: dict[str, Callable[[CycleMasks, Path], int]] = {"png": _write_png, "coco": _write_coco, "npy": _write_npy}
    if form not in writers:
        raise ConfigError(f"--format {form}: choose from {', '.join(FORMATS)}")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"-o {out}: the folder {out.absolute().parent} does not exist: make it first")
    if form == "coco" and out.suffix != ".json":
        raise ConfigError(f"-o {out}: coco is one file: name it FILE.json")
    if form != "coco" and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"-o {out}: {form} fills a folder, and this is none or not empty: name a new one")
    return writers[form](cycle_masks(run, cycle), out)


def _names(masks: CycleMasks) -> list[str]:
    """Of the photographs; with a folder per source where there are several, for they may share names."""
    several = len({photograph.source for photograph in masks.photographs}) > 1
    return [f"source-{each.source}/{each.key}" if several else each.key for each in masks.photographs]


def _write_png(masks: CycleMasks, out: Path) -> int:
    def write(file: Path, row: MaskRow) -> None:
        picture = Image.fromarray(at_size(row.labels, *row.image_size).astype(np.uint8)).convert("P")
        picture.putpalette(label_colours().tobytes())
        picture.save(file)

    return _write_folder(masks, out, ".png", write)


def _write_npy(masks: CycleMasks, out: Path) -> int:
    return _write_folder(masks, out, ".npy", lambda file, row: np.save(file, row.labels))


def _write_folder(masks: CycleMasks, out: Path, suffix: str, write: Callable[[Path, MaskRow], None]) -> int:
    names = _names(masks)
    for number, row in read_rows(masks.store):
        file = out / f"{names[number]}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, row)
    return len(names)


def _write_coco(masks: CycleMasks, out: Path) -> int:
    """As it goes: of a hundred thousand photographs all regions together are gigabytes."""
    aside = out.with_name(f".{out.name}.partial")
    images: list[dict[str, object]] = []
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write('{"categories": [{"id": 1, "name": "region"}], "annotations": [')
            count = 0
            for number, (name, (_, row)) in enumerate(zip(_names(masks), read_rows(masks.store), strict=True)):
                height, width = row.image_size
                images.append({"id": number, "file_name": encode_key(name), "height": height, "width": width})
                for annotation in _annotations(at_size(row.labels, height, width)):
                    file.write(",\n" if count else "\n")
                    count += 1
                    file.write(json.dumps({"id": count, "image_id": number, **annotation}))
            file.write(f'\n], "images": {json.dumps(images)}}}\n')
        aside.replace(out)
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
    return len(images)


def _annotations(labels: NDArray[np.integer]) -> Iterator[dict[str, object]]:
    """A run-length encoded one for each region."""
    for label in np.unique(labels).tolist():
        encoded = coder.encode(np.asfortranarray(labels == label, dtype=np.uint8))
        yield {
            "category_id": 1,
            "label": label,
            "segmentation": {"size": list(labels.shape), "counts": encoded["counts"].decode()},
            "area": int(coder.area(encoded)),
            "bbox": coder.toBbox(encoded).tolist(),
            "iscrowd": 0,
        }

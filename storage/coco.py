"""Photographs named by a COCO json: which, and in which folder."""

import contextlib
import io
import json
import os
from pathlib import PurePosixPath, PureWindowsPath

from schemas.errors import DataError, UnreachableError
from storage.sources import PhotographFolder, expand, is_file, is_remote, open_folder, read_file


def photograph_folder(source: str) -> PhotographFolder:
    """The folder of the photographs of `FILE.json` or `FILE.json=FOLDER`, each on a disk or on S3.

    Without a folder COCO's own arrangement is tried: `annotations/instances_train2017.json` beside `train2017/`.

    Raises:
        DataError: the file or the folder is not there.
    """
    file, _, given = source.partition("=")
    if not is_file(file):
        raise DataError(f"--data {source}: no such file {file}")
    if given:
        folder = open_folder(given)
        if not folder.exists():
            raise DataError(f"--data {source}: no such folder {given}")
        return folder
    scheme, path = ("s3://", PurePosixPath(file[5:])) if is_remote(file) else ("", expand(file))
    split = path.stem.rpartition("_")[2]
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    tried = [f"{scheme}{folder}" for folder in (root / split, root / "images" / split, root / "images")]
    for place in tried:
        folder = open_folder(place)
        if folder.exists():
            return folder
    raise DataError(f"--data {source}: its photographs are not in {', '.join(tried)}; say where: {file}=FOLDER")


def annotated_photographs(source: str) -> list[str]:
    """File names under "images" of a COCO json, each once, sorted.

    Raises:
        DataError: it is not such a file, or a name leads outside the folder of the photographs.
    """
    # Importing pycocotools takes matplotlib's time where that is installed: only those who need it pay.
    from pycocotools.coco import COCO

    file = source.partition("=")[0]
    coco = COCO()
    try:
        coco.dataset = json.loads(_read(source))
        if not isinstance(coco.dataset, dict):
            raise TypeError(f"found {type(coco.dataset).__name__}")
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        images = list(coco.dataset["images"])
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise DataError(f'--data {file}: not a COCO json with "images": {" ".join(str(error).split())}') from error
    names = set()
    for position, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f'--data {file}: image {position} under "images" has no "file_name"')
        if _leads_out(name):
            raise DataError(f"--data {file}: image {position} leads out of the data folder: {name!r}")
        try:
            os.fsencode(name)
        except UnicodeEncodeError as error:
            raise DataError(f"--data {file}: image {position} has a name that no file can have: {name!r}") from error
        names.add(PurePosixPath(name).as_posix())
    return sorted(names)


def _leads_out(name: str) -> bool:
    """Whether a name could be taken for one outside of its folder, here or on the system that wrote it."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return "\0" in name or bool(posix.anchor or windows.anchor) or ".." in (*posix.parts, *windows.parts)


def _read(source: str) -> bytes:
    file = source.partition("=")[0]
    try:
        return read_file(file)
    except UnreachableError:
        raise
    except OSError as error:
        raise DataError(f"--data {source}: {file} cannot be read: {error.strerror}") from error

"""Photographs named by a COCO json: which, and in which folder."""

import contextlib
import io
from pathlib import Path, PurePosixPath

from schemas.errors import DataError


def photograph_folder(source: str) -> Path:
    """The folder of the photographs of `FILE.json` or `FILE.json=FOLDER`.

    Without a folder COCO's own arrangement is tried: `annotations/instances_train2017.json` beside `train2017/`.

    Raises:
        DataError: the file or the folder is not there.
    """
    file, _, given = source.partition("=")
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"--data {source}: no such file {file}")
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise DataError(f"--data {source}: no such folder {given}")
        return folder
    split = path.stem.rpartition("_")[2]
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    tried = [root / split, root / "images" / split, root / "images"]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise DataError(
        f"--data {source}: its photographs are not in {', '.join(map(str, tried))}; say where: {file}=FOLDER"
    )


def annotated_photographs(source: str) -> list[str]:
    """File names under "images" of a COCO json, each once, sorted.

    Raises:
        DataError: it is not such a file, or a name leads outside the folder of the photographs.
    """
    # Importing pycocotools takes matplotlib's time where that is installed: only those who need it pay.
    from pycocotools.coco import COCO

    file = source.partition("=")[0]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            images = list(COCO(str(Path(file).expanduser())).dataset["images"])
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise DataError(f'--data {file}: not a COCO json with "images": {" ".join(str(error).split())}') from error
    names = set()
    for position, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f'--data {file}: image {position} under "images" has no "file_name"')
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise DataError(f"--data {file}: image {position} leads out of the data folder: {name!r}")
        names.add(PurePosixPath(name).as_posix())
    return sorted(names)

"""ImageFolder: <split>/<class>/*.jpg."""

from pathlib import Path

from PIL import Image

from schemas.errors import DataError
from stages.readers.samples import LazySamples, Split, need_folder, read_photograph
from storage.sources import SUFFIXES

_LAYOUT = "an ImageFolder"


def image_folder(
    root: Path, split: str, classes: list[str] | None = None, *, most: int | None = None, listed: Path | None = None
) -> tuple[Split[Image.Image], list[int], list[str]]:
    """Photographs of a split, the class of each, and the names of the classes.

    Args:
        classes: names in their order, where another split has fixed it.
        most: photographs, taken from the classes in turn.
        listed: a file that names those that take part, one a line: NAME.JPEG or CLASS/NAME.JPEG, a number may follow.

    Raises:
        DataError: a folder or file is missing, a class is not among `classes`, or a listed photograph is not there.
    """
    folder = need_folder(root, split, layout=_LAYOUT)
    found = {
        each.name: sorted(p for p in each.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        for each in sorted(folder.iterdir())
        if each.is_dir() and not each.name.startswith(".")
    }
    if listed is not None:
        found = _listed(found, listed, root)
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        raise DataError(f"--data {root}: no photographs in {folder}/<class>/")
    names = classes if classes is not None else list(found)
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(f"--data {root}: {folder / unknown[0]} is a class that the training split does not have")
    # In turn, so that a limit leaves every class some.
    turns = sorted(
        ((place, name, path) for name, paths in found.items() for place, path in enumerate(paths)),
        key=lambda turn: turn[:2],
    )[:most]
    turns.sort(key=lambda turn: turn[2])
    paths = {path.relative_to(root).as_posix(): path for _, _, path in turns}
    samples = LazySamples(list(paths), lambda key: read_photograph(paths[key]))
    return Split(samples, list(paths.values()), []), [names.index(name) for _, name, _ in turns], names


def _listed(found: dict[str, list[Path]], file: Path, root: Path) -> dict[str, list[Path]]:
    if not file.is_file():
        raise DataError(
            f"--data {root}: the list {file} is missing: name one by --set image_list=FILE, or null for all"
        )
    wanted = {line.split()[0].rsplit("/", 1)[-1] for line in file.read_text().splitlines() if line.strip()}
    kept = {name: [path for path in paths if path.name in wanted] for name, paths in found.items()}
    missing = wanted - {path.name for paths in kept.values() for path in paths}
    if missing:
        raise DataError(f"--data {root}: {file} names {min(missing)}, which is in none of the folders of the split")
    return kept

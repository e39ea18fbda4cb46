"""Masks that a person gives: a COCO json, a folder of label maps, or a mask store of another run."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from schemas.digests import digest_json
from storage.photographs import file_digest


def given_digest(paths: Sequence[Path]) -> str:
    """Digest over files, and over all files below folders and their names."""
    files = [(path, file) for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    files = [(path, file) for path, file in files if file.is_file()]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(file_digest, (file for _, file in files)))
    return digest_json(
        [[file.relative_to(path).as_posix(), digest] for (path, file), digest in zip(files, digests, strict=True)]
    )

"""Take an artifact over from another run, as it stands."""

from schemas.artifacts import Manifest
from schemas.digests import digest_bytes
from schemas.errors import DamagedArtifactError
from storage import layout
from storage.run import Run


def copy_artifact(source: Run, target: Run, folder: str, manifest: Manifest) -> None:
    """An artifact's files, each held against its digest, then its manifest.

    Raises:
        DamagedArtifactError: a file is not what was committed.
    """
    for entry in manifest.files:
        path = f"{folder}/{entry.path}"
        try:
            data = source.store.read(path)
        except FileNotFoundError:
            continue  # let go by placement.keep_checkpoints; the note of it is copied too
        if digest_bytes(data) != entry.digest:
            raise DamagedArtifactError(f"{source.store.url}/{path} is damaged: `cyborgs verify {source.store.url}`")
        target.store.write(path, data)
    note = f"{folder}/{layout.THINNED}"
    if source.store.size(note) is not None:
        target.store.write(note, source.store.read(note))
    target.store.publish(folder)
    target.store.create(f"{folder}/{layout.MANIFEST}", manifest.model_dump_json(indent=1).encode())

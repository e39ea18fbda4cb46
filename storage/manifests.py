"""A manifest, as the file that makes an artifact whole: reading one, and whether it counts."""

import json
from typing import NamedTuple

from pydantic import ValidationError

from schemas.artifacts import Manifest, refuse_other_format
from schemas.errors import DamagedArtifactError, RunError
from storage import layout
from storage.run import Run


class Reading(NamedTuple):
    """A manifest that counts, or why it does not."""

    manifest: Manifest | None
    problem: str | None = None
    thinned: bool = False


def read_manifest(run: Run, folder: str, key: str) -> Reading:
    """The manifest of an artifact, whose files all have their sizes; they are not read here."""
    path = f"{folder}/{layout.MANIFEST}"
    try:
        manifest = decode_manifest(run.store.read(path), where=f"{run.store.url}/{path}")
    except FileNotFoundError:
        return Reading(None)
    except DamagedArtifactError as error:
        return Reading(None, str(error))
    if manifest.key != key:
        return Reading(None, f"{path} belongs to another artifact ({manifest.key})")
    sizes = run.store.sizes(folder)
    wrong = {entry.path for entry in manifest.files if sizes.get(f"{folder}/{entry.path}") != entry.bytes}
    if wrong:
        if not wrong <= let_go(run, folder):
            return Reading(None, f"{folder}/{min(wrong)} is missing or cut short")
        return Reading(manifest, thinned=True)
    return Reading(manifest)


def let_go(run: Run, folder: str) -> frozenset[str]:
    """Files of an artifact that were let go by placement.keep_checkpoints, of which storage/retention.py leaves a note.

    That it is there counts, not what it says: a byte of it that changed costs nobody a checkpoint.
    """
    noted = run.store.size(f"{folder}/{layout.THINNED}") is not None
    return frozenset(layout.CHECKPOINT_FILES) if noted else frozenset()


def decode_manifest(text: bytes, *, where: str) -> Manifest:
    """A manifest as it was written.

    Raises:
        RunError: another version wrote it, in a format that this one does not know.
        DamagedArtifactError: it is not what was written.
    """
    try:
        tree = json.loads(text)
        # The format enters the key's ingredients too: where they disagree, a byte has changed.
        if isinstance(tree, dict) and tree["ingredients"]["format"] == tree["format"]:
            refuse_other_format(tree, where=where)
        return Manifest.model_validate_json(text)
    except RunError:
        raise
    except ValidationError as error:
        raise DamagedArtifactError(f"{where} is damaged: {error.errors()[0]['msg']}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedArtifactError(f"{where} is damaged: {error}") from error

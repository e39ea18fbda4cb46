"""The folder for what can be made again at any time."""

import os
from pathlib import Path

from schemas.errors import RunError


def cache_folder() -> Path:
    """CYBORGS_CACHE, else `cyborgs` in the user's cache folder.

    Raises:
        RunError: it cannot be written.
    """
    given = os.environ.get("CYBORGS_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "cyborgs"
    folder = Path(given or base).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
        reason = "" if writable else "no permission"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise RunError(f"cache {folder} cannot be written: {reason}; name another folder with CYBORGS_CACHE")
    return folder

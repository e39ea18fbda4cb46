"""The folder for what can be made again at any time."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """CYBORGS_CACHE, else `cyborgs` in the user's cache folder."""
    given = os.environ.get("CYBORGS_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "cyborgs"

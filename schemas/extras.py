"""Packages that only some settings need, and that are not installed by default."""

from importlib.util import find_spec

from schemas.config import RunConfig
from schemas.errors import ConfigError


def check_extras(config: RunConfig) -> None:
    """Whether this machine has what the settings ask for.

    Raises:
        ConfigError: a package is missing.
    """
    if config.masks.crf and find_spec("pydensecrf") is None:
        raise ConfigError(
            "masks.crf: needs the package pydensecrf2, which is not installed here; "
            "`pip install pydensecrf2` (it is compiled: a C++ compiler has to be there), or set masks.crf=false"
        )

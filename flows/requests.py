"""What was asked for: which run, with which settings."""

from dataclasses import dataclass

from flows.prepare import default_run
from schemas.config import RunConfig
from schemas.errors import RunError
from schemas.loading import change_config, load_config
from storage.run import find_run


@dataclass(frozen=True)
class Request:
    """A run, which may not be there yet, and what it is to be told."""

    url: str
    name: str
    """Of the config, for people."""
    config: RunConfig


def understand(config: str | None, assignments: list[str], url: str | None, *, default: str | None = None) -> Request:
    """A config by name, or left out what the run at `url` was made with.

    Args:
        config: a name under configs/ or a YAML file.
        assignments: settings to lay over it, `a.b=c`.
        url: where the run is; left out a folder named after the config.
        default: the config where neither is given, or nothing is at `url`.

    Raises:
        CyborgsError: bad settings, or no config where there is no run.
    """
    if config is None:
        known = find_run(url) if url is not None else None
        if url is not None and known is not None:
            return Request(url, known.record.name, change_config(known.config, assignments))
        if default is None:
            where = f"run {url}: there is no run here" if url is not None else "nothing to run"
            raise RunError(f"{where}: name a config, such as small, or a run that exists with --run")
        config = default
    return Request(url or default_run(config), config, load_config(config, assignments))

"""Who makes an artifact, where and with what; recorded beside it, never digested."""

import getpass
import os
import platform
import socket
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from schemas.artifacts import Provenance

_PACKAGES = ("torch", "torchvision", "faiss-gpu", "faiss-cpu", "zarr", "numpy", "pillow", "prefect")


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Name of the user, or the number where it has none (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def provenance(*, seconds: float = 0.0, device: str = "cpu", warnings: tuple[str, ...] = ()) -> Provenance:
    """This process, now."""
    return Provenance(
        created=now(),
        seconds=round(seconds, 3),
        code=code_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        python=platform.python_version(),
        host=socket.gethostname(),
        container=_container(),
        user=user(),
        device=device,
        warnings=warnings,
    )


def code_version() -> str:
    """Of this package."""
    return _version("cyborgs") or "unknown"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _container() -> str | None:
    """Docker names a container's host after its id; the marker file tells that this is one."""
    return socket.gethostname() if Path("/.dockerenv").exists() else None

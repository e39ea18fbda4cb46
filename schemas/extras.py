"""Packages that only some settings need, and that are not installed by default."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from schemas.config import RunConfig
from schemas.errors import ConfigError

_TRACKER_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}
"""Module of an optional tracker -> the package that brings it."""


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
    if config.masks.source == "selective-search" and not has_contributed_modules():
        raise ConfigError(
            "masks.source selective-search: needs OpenCV with its contributed modules, which is not installed here "
            "or was overwritten by another OpenCV; "
            f"`pip install --force-reinstall --no-deps {_pinned('opencv-contrib-python-headless')}`"
        )
    check_trackers(config)


def check_trackers(config: RunConfig) -> None:
    """Whether this machine has the trackers that `placement.trackers` names.

    Raises:
        ConfigError: a package is missing.
    """
    for name in config.placement.trackers:
        package = _TRACKER_PACKAGES.get(name)
        if package is not None and not _is_installed(name):
            raise ConfigError(
                f"placement.trackers {name}: needs the package {package}, which is not installed here; "
                f"`pip install {package}`, or leave {name} out"
            )


def _is_installed(module: str) -> bool:
    """Whether a module can be imported; a mere folder of that name, such as W&B leaves where it ran, is none."""
    found = find_spec(module)
    return found is not None and found.origin is not None


def has_contributed_modules() -> bool:
    """Whether OpenCV is here with what selective search calls.

    Its packages share one folder and overwrite each other's binary: what lies in the folder tells nothing.
    """
    try:
        import cv2
    except ImportError:
        return False
    segmentation = getattr(getattr(cv2, "ximgproc", None), "segmentation", None)
    return hasattr(segmentation, "createSelectiveSearchSegmentation")


def _pinned(package: str) -> str:
    """The package in the version that is installed, if it is."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package

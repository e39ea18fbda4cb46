"""Optional packages: whether they can be used, and what is said where they cannot."""

import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from schemas import extras
from schemas.errors import ConfigError
from schemas.loading import load_config


def test_an_opencv_without_selective_search_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not installed; plain; and plain with the folder that the contributed modules left behind."""
    config = load_config("demo", ["masks.source=selective-search"])
    monkeypatch.setattr(extras, "version", lambda _: "5.0.0")
    for found in (None, SimpleNamespace(), SimpleNamespace(ximgproc=SimpleNamespace())):
        monkeypatch.setitem(sys.modules, "cv2", found)
        with pytest.raises(
            ConfigError,
            match="^masks.source selective-search: [^\n]*"
            "`pip install --force-reinstall --no-deps opencv-contrib-python-headless==5.0.0`$",
        ):
            extras.check_extras(config)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "version", absent)
    with pytest.raises(ConfigError, match="--no-deps opencv-contrib-python-headless`$"):
        extras.check_extras(config)


def test_an_opencv_with_selective_search_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation = SimpleNamespace(createSelectiveSearchSegmentation=None)
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(ximgproc=SimpleNamespace(segmentation=segmentation)))
    extras.check_extras(load_config("demo", ["masks.source=selective-search"]))
    monkeypatch.setitem(sys.modules, "cv2", None)
    extras.check_extras(load_config("demo", ["masks.source=grid"]))

"""Where caches are kept."""

from pathlib import Path

import pytest

from schemas.errors import RunError
from storage.cache import cache_folder


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    monkeypatch.delenv("CYBORGS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "cyborgs"
    assert cache_folder().is_dir()


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match=r"cache .*file/cache cannot be written: .*CYBORGS_CACHE") as caught:
        cache_folder()
    assert "\n" not in str(caught.value)

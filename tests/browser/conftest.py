"""Chromium, and a run whose report it opens."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from stages.report.page import write_report
from storage.run import open_run
from tests.pipeline import prepare, run_all


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's, without a window."""
    found = shutil.which("chromium")
    assert found is not None, "`make test-browser` installs Chromium; else: apt-get install chromium"
    with sync_playwright() as playwright:
        # --no-sandbox: tests run as root in a container.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A tiny run of two cycles from start to end, with its report."""
    url = tmp_path_factory.mktemp("reported") / "tiny"
    prepare(url, tiny_config, photographs, "evaluate.pictures=18", "evaluate.images=18")
    run_all(url)
    write_report(open_run(str(url)))
    return url

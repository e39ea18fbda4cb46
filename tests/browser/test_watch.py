"""`cyborgs watch`: the page goes along with the run."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from flows.launching import run_step
from flows.watch import Watch
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.report.data import Tree, report_data
from storage.run import open_run
from tests.browser.test_page import Visit
from tests.pipeline import prepare

pytestmark = pytest.mark.browser
CYBORGS = [sys.executable, "-P", "-c", "from cli.main import entry; entry()"]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run whose first cycle is done, to be looked at."""
    url = tmp_path_factory.mktemp("half") / "half"
    prepare(url, tiny_config, photographs)
    for stage, cycle in (("index-images", None), ("warm-up", None), *((s, 0) for s in CYCLE)):
        go_on(url, stage, cycle)
    return url


CYCLE = ("bootstrap-masks", "train", "evaluate")


def go_on(url: Path, stage: str, cycle: int | None) -> None:
    run = open_run(str(url))
    step = find_step(run.config, stage, cycle)  # type: ignore[arg-type]
    run_step(StageRequest(run=str(url), stage=step.stage, cycle=cycle), Watch(run, step))


@contextmanager
def watched(url: Path) -> Iterator[str]:
    """The address of `cyborgs watch`, which Ctrl-C ends."""
    server = subprocess.Popen([*CYBORGS, "watch", str(url), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_cycle_shows_within_seconds_of_its_commit(half: Path, tmp_path: Path, chromium: Browser) -> None:
    url = Path(shutil.copytree(half, tmp_path / "half", symlinks=True))
    with watched(url) as address:
        assert address.startswith("http://127.0.0.1:")
        opened = Visit(chromium, address)
        page = opened.page
        assert [each.strip() for each in page.locator("#cycle-choice label").all_inner_texts()] == ["0"]
        page.get_by_label("Opacity").fill("80")
        for stage in CYCLE:
            go_on(url, stage, 1)
        committed = time.monotonic()
        page.get_by_role("radio", name="1", exact=True).wait_for(timeout=10_000)
        assert time.monotonic() - committed < 10
        # Who looks at the newest cycle is taken along, and keeps what was chosen.
        page.wait_for_selector('canvas[data-drawn="1"]')
        assert page.get_by_label("Opacity").input_value() == "80"
        page.wait_for_function("document.querySelector('#state').textContent.includes('8 of 8 stages done')")
        assert [each for each in opened.asked if not each.startswith(address)] == []
        assert opened.said == []
        opened.close()

        rebound = urllib.request.Request(f"{address}/data.json", headers={"Host": "elsewhere.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(rebound, timeout=10)


def test_photographs_come_to_who_watches_from_the_start(
    tmp_path: Path, photographs: Path, tiny_config: Path, chromium: Browser
) -> None:
    url = tmp_path / "new"
    prepare(url, tiny_config, photographs)
    go_on(url, "index-images", None)
    with watched(url) as address:
        opened = Visit(chromium, address, until="#stage-table tbody tr")
        assert not opened.page.locator("#masks-controls").is_visible()
        for stage, cycle in (("warm-up", None), *((s, 0) for s in CYCLE)):
            go_on(url, stage, cycle)
        opened.page.wait_for_selector('canvas[data-drawn="0"]', timeout=10_000)
        opened.page.wait_for_function("document.querySelector('#chosen-count').textContent === '2 of 2 photographs'")
        assert opened.said == []
        opened.close()


class Server:
    """Answers in place of `cyborgs watch`."""

    def __init__(self, page: Page, data: Tree) -> None:
        self.data, self.status, self.body = data, 200, ""
        page.route("**/data.json*", lambda route: self._answer(route))

    def _answer(self, route: Route) -> None:
        if self.status == 0:
            route.abort()
        elif self.status == 200:
            route.fulfill(status=200, body=json.dumps(self.data), content_type="application/json")
        else:
            route.fulfill(status=self.status, body=self.body, content_type="text/html")


def wait_for_text(page: Page, place: str, text: str) -> None:
    page.wait_for_function(
        "([place, text]) => document.querySelector(place).textContent.includes(text)", arg=[place, text]
    )


def test_what_a_reader_holds_stays_while_news_come(half: Path, chromium: Browser) -> None:
    with watched(half) as address:
        opened = Visit(chromium, address)
        page, data = opened.page, report_data(open_run(str(half)))
        Server(page, data)
        page.get_by_text("2 of 2 photographs").click()
        first, second = page.locator("#grid figcaption").all_inner_texts()
        page.get_by_label("Find").fill(second)
        page.locator("#lineage a").first.focus()
        page.evaluate("""() => {
            window.spoken = 0;
            new MutationObserver(() => { window.spoken += 1; }).observe(
              document.querySelector('#state'), { childList: true, characterData: true, subtree: true });
            window.held = ['#lineage a', '#stage-table tr', '#grid canvas', '#config-text', '#photograph-choice input']
              .map((place) => document.querySelector(place));
        }""")
        running = next(stage for stage in data["stages"] if stage["name"] == "train cycle 1")
        running |= {"state": "running", "progress": "step 1 of 8", "share": 0.125}
        wait_for_text(page, "#progress", "step 1 of 8")
        running |= {"progress": "step 2 of 8", "share": 0.25}
        wait_for_text(page, "#progress", "step 2 of 8")
        wait_for_text(page, "#stage-table", "step 2 of 8")
        assert page.evaluate("window.held.map((each) => each.isConnected)") == [True] * 5
        assert page.evaluate("document.activeElement === window.held[0]")
        assert page.evaluate("window.spoken") == 1, "that a stage began, and not each of its steps"
        # What was typed still decides whom the buttons mean.
        page.get_by_role("button", name="none").click()
        assert page.locator("#grid figcaption").all_inner_texts() == [first]
        opened.close()


def test_a_server_that_is_gone_or_has_trouble_is_told_until_it_answers(half: Path, chromium: Browser) -> None:
    with watched(half) as address:
        opened = Visit(chromium, address)
        server = Server(opened.page, report_data(open_run(str(half))))
        server.status = 0
        wait_for_text(opened.page, "#fault", "No answer from `cyborgs watch`")
        server.status = 503
        server.body = "<p>Error code: 503</p><p>Error code explanation: 503 - run.json: damaged.</p>"
        wait_for_text(opened.page, "#fault", "`cyborgs watch` says: run.json: damaged: what stands")
        server.body = ""
        wait_for_text(opened.page, "#fault", "says: Service Unavailable")
        server.status = 204
        opened.page.wait_for_function("document.querySelector('#fault').textContent === ''")
        assert "5 of 8 stages done" in opened.page.locator("#state").inner_text()
        opened.close()


def test_a_taken_port_and_a_missing_run_are_one_line(half: Path, tmp_path: Path) -> None:
    missing = subprocess.run([*CYBORGS, "watch", str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1
    import http.server

    taken = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = str(taken.server_address[1])
    refused = subprocess.run(
        [*CYBORGS, "watch", str(half), "--port", port], capture_output=True, text=True, check=False
    )
    taken.server_close()
    assert refused.returncode == 2
    assert "give another --port" in refused.stderr

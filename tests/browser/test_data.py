"""The page of data that a tiny run does not lead to."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from stages.report.data import Tree, report_data
from stages.report.page import render
from storage.run import open_run
from tests.browser.test_page import Visit

pytestmark = pytest.mark.browser
Opener = Callable[..., Visit]
STEPS = list(range(200))


@pytest.fixture(scope="module")
def known(reported: Path) -> Tree:
    return report_data(open_run(str(reported)))


@pytest.fixture
def data(known: Tree) -> Tree:
    """To be changed."""
    return copy.deepcopy(known)


@pytest.fixture
def opener(chromium: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of some data."""
    opened = []

    def opens(data: Tree, part: str = "", *, until: str = "canvas[data-drawn]") -> Visit:
        page = tmp_path / "index.html"
        page.write_text(render(data))
        opened.append(Visit(chromium, page.as_uri() + part, until=until))
        return opened[-1]

    yield opens
    for visit in opened:
        visit.close()


def chart(*lines: list[float | None], **more: object) -> Tree:
    named = [{"name": f"line {number}", "x": STEPS, "y": y} for number, y in enumerate(lines)]
    return {"title": "vMF loss", "note": "", "x": "step", "marks": [], "lines": named, **more}


def test_points_between_gaps_can_be_seen(data: Tree, opener: Opener) -> None:
    data["curves"] = [
        chart(
            [1.0 if step == 70 else None for step in STEPS],
            [2.0 if step % 5 == 0 else None for step in STEPS],
            [None if step == 0 or 100 <= step < 150 or step >= 151 else 3.0 for step in STEPS],
            [4.0 for _ in STEPS],
        )
    ]
    page = opener(data, "#curves").page
    page.wait_for_selector("#curves .scatter .point")
    lines = page.locator("#curves .scatter")
    paths = "line => [...line.querySelectorAll('.js-line')].map(each => each.getAttribute('d'))"
    drawn = [[path for path in each.evaluate(paths) if "L" in path] for each in lines.all()]
    seen = "line => [...line.querySelectorAll('.point')].filter(each => each.getBBox().width > 0).length"
    assert [each.evaluate(seen) for each in lines.all()] == [1, 0, 1, 0], "a point by itself has a dot"
    assert [len(each) for each in drawn] == [0, 1, 1, 1]

    def width(path: str) -> float:
        places = re.findall(r"[ML]([0-9.]+)", path)
        return float(places[-1]) - float(places[0])

    _, every_fifth, until_gap, whole = (width(each[0]) if each else 0 for each in drawn)
    assert every_fifth == pytest.approx(whole * 195 / 199, rel=0.01), "what is computed now and then is one line"
    assert until_gap == pytest.approx(whole * 98 / 199, rel=0.01), "a long gap stays one"


def test_levels_are_drawn_with_their_titles(data: Tree, opener: Opener) -> None:
    data["curves"] = [chart([0.9 for _ in STEPS], levels=[{"value": 0.3, "title": "collapse"}])]
    page = opener(data, "#curves").page
    page.wait_for_selector("#curves .main-svg .annotation-text")
    assert page.locator("#curves .annotation-text").all_text_contents() == ["collapse"]
    box = page.locator("#curves .shapelayer path").bounding_box()
    plot = page.locator("#curves .plot").bounding_box()
    assert box is not None and plot is not None
    assert plot["y"] < box["y"] < plot["y"] + plot["height"] and box["width"] > 0.7 * plot["width"]
    assert "collapse at 0.3" in str(page.locator("#curves .plot").get_attribute("aria-label"))


def test_charts_come_without_a_photograph(data: Tree, opener: Opener) -> None:
    for photograph in data["pictures"]["photographs"]:
        photograph["picture"] = "data:image/jpeg;base64,AAAA"
    visit = opener(data, until="#grid .problem")
    visit.page.locator("#curves .plot").first.scroll_into_view_if_needed()
    visit.page.wait_for_selector("#curves .main-svg")
    assert "cannot be read" in visit.page.locator("#grid figcaption").first.inner_text()
    assert visit.said == []


def test_charts_come_to_who_goes_there_at_once(known: Tree, opener: Opener) -> None:
    visit = opener(known, "#curves", until="#curves .main-svg")
    assert visit.said == []


def test_masks_that_cannot_be_read_are_told(data: Tree, opener: Opener) -> None:
    data["pictures"]["cycles"][-1]["labels"][0] = None
    page = opener(data).page
    page.wait_for_selector("#grid figcaption .problem")
    assert page.locator("#grid figcaption").first.inner_text() == "00.png no masks of cycle 1"


def test_a_method_without_masks_has_no_part_for_them(data: Tree, opener: Opener) -> None:
    data["run"]["masks"] = False
    data["pictures"] = {"photographs": [], "cycles": []}
    page = opener(data, until="#curves .chart").page
    assert not page.locator("#masks").is_visible()
    assert page.locator("nav a:visible").first.inner_text() == "Mask health"
    data["health"] = {"figures": [], "cycles": []}
    page = opener(data, until="#curves .chart").page
    assert page.locator("nav a:visible").first.inner_text() == "Evaluation"


def test_what_the_report_says_of_gate_and_alarms(data: Tree, opener: Opener) -> None:
    data["warnings"] = [{"stage": "train cycle 1", "text": "collapse: projection_std is 0.120 at step 40"}]
    data["stages"][-1]["state"] = "paused"
    page = opener(data).page
    assert page.locator("#state").inner_text() == "7 of 8 stages done; evaluate cycle 1 is paused"
    assert "train cycle 1: collapse" in page.locator("#warnings").inner_text()
    for setting in ("masks.keep_if_worse", "placement.pause_on_alarm"):
        assert page.get_by_text(setting, exact=True).first.is_visible()

"""The report in Chromium: what it draws, how it answers, who may use it, and that it asks nobody for anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.browser


class Visit:
    """An open page, with what it said and asked for.

    Args:
        until: what has to stand there before it counts as open.
    """

    def __init__(self, browser: Browser, address: str, *, until: str = "canvas[data-drawn]", **context: Any) -> None:
        self._context = browser.new_context(**context)
        self.page: Page = self._context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", self._note)
        self.page.goto(address)
        self.page.wait_for_selector(until)

    def _note(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.asked.append(request.url)

    def pixels(self, place: int = 0) -> str:
        """Of a canvas, as a data URL."""
        return str(self.page.locator("#grid canvas").nth(place).evaluate("canvas => canvas.toDataURL()"))

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visit(chromium: Browser, reported: Path) -> Iterator[Visit]:
    """The report, opened from its file."""
    opened = Visit(chromium, (reported / "report/index.html").as_uri())
    yield opened
    opened.close()


def test_it_opens_without_an_error_and_asks_nobody(visit: Visit) -> None:
    for name in ("Masks", "Mask health", "Evaluation", "Training", "Stages", "Lineage", "Config"):
        assert visit.page.get_by_role("heading", name=name, exact=True).is_visible()
    for place in visit.page.locator(".plot").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()
    assert visit.page.locator(".plot").count() >= 8
    assert "8 of 8 stages done" in visit.page.locator("#state").inner_text()
    assert visit.said == []
    assert [each for each in visit.asked if not each.startswith("file:")] == []
    assert len(visit.asked) == 1, "the file itself"


def test_another_cycle_shows_other_masks(visit: Visit) -> None:
    newest = visit.pixels()
    visit.page.get_by_role("radio", name="0", exact=True).check()
    visit.page.wait_for_selector('canvas[data-drawn="0"]')
    assert visit.pixels() != newest
    visit.page.get_by_label("Beside it").select_option("1")
    visit.page.wait_for_selector('canvas[data-drawn="1"]')
    assert visit.page.locator("#grid canvas").count() == 36
    # The second of the pair is what stood there first, at another size on the screen alone.
    assert visit.pixels(1) == newest


def test_opacity_and_choice_of_photographs(visit: Visit) -> None:
    before = visit.pixels()
    visit.page.get_by_label("Opacity").fill("0")
    visit.page.wait_for_function("before => document.querySelector('#grid canvas').toDataURL() !== before", arg=before)
    visit.page.get_by_label("Beside it").select_option("photograph")
    visit.page.wait_for_selector('canvas[data-drawn="photograph"]')
    assert visit.pixels(0) == visit.pixels(1), "masks that cannot be seen leave the photograph"
    visit.page.get_by_text("18 of 18 photographs").click()
    visit.page.get_by_role("button", name="none").click()
    assert visit.page.locator("#grid figure").count() == 0
    visit.page.get_by_label("Find").fill("07")
    visit.page.get_by_role("button", name="all").click()
    assert visit.page.locator("#grid figcaption").all_inner_texts() == ["07.png"]
    assert visit.page.locator("#photograph-choice label:visible").count() == 1


def test_pointing_at_a_region_marks_it_in_all_of_its_group(visit: Visit) -> None:
    page = visit.page
    # What is off the screen is drawn when it comes there.
    page.set_viewport_size({"width": 1280, "height": 2400})
    page.wait_for_function("document.querySelectorAll('canvas[data-drawn]').length === 18")
    before = [visit.pixels(place) for place in range(18)]
    page.locator("#grid canvas").first.hover(position={"x": 40, "y": 40})
    page.wait_for_function("document.querySelector('#region').textContent.startsWith('Region')")
    assert "of the 4 shown of its group" in page.locator("#region").inner_text()
    page.wait_for_function("before => document.querySelector('#grid canvas').toDataURL() !== before", arg=before[0])
    for canvas in range(18):
        page.locator("#grid canvas").nth(canvas).evaluate("() => new Promise(done => setTimeout(done, 20))")
    # masks.images_per_group=4: rows 0 to 3 were clustered together.
    changed = [place for place in range(18) if visit.pixels(place) != before[place]]
    assert changed == [0, 1, 2, 3]
    page.mouse.move(1, 1)
    page.wait_for_function("before => document.querySelector('#grid canvas').toDataURL() === before", arg=before[0])


def test_it_works_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="1", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('canvas[data-drawn="0"]')
    canvas = page.locator("#grid canvas").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#region').textContent.startsWith('Region')")
    first = page.locator("#region").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("first => document.querySelector('#region').textContent !== first", arg=first)
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('#region').textContent.trim() === ''")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(chromium: Browser, reported: Path, scheme: str, width: int) -> None:
    opened = Visit(
        chromium,
        (reported / "report/index.html").as_uri(),
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
    )
    for place in opened.page.locator(".plot").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()
    found = Axe().run(opened.page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
    # Nothing hangs over the side of a phone's screen.
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()

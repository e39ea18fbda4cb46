"""The site: it builds with every link right, asks no other host for anything, and lists what the code has."""

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cli.main import app
from schemas.config import RunConfig
from schemas.loading import field_names
from schemas.planned_protocols import PROTOCOL_NAMES
from schemas.protocols import SETTINGS
from tests.documents import ROOT

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
"""Elements that a browser fetches by itself, and where from."""
ELSEWHERE = re.compile(r"(https?:)?//")


def fetched_by_style(text: str) -> list[str]:
    """What style sheets and style attributes name."""
    return re.findall(r"(?:url\(\s*|@import\s*)['\"]?([^'\")\s;]+)", text)


class Page(HTMLParser):
    """What a page loads, the ids that it has, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        whole = file.read_text(encoding="utf-8")
        self.loads.extend(fetched_by_style(whole))
        self.feed(whole)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED and given.get("rel") not in ("prev", "next"):
            self.loads.append(given.get(LOADED[tag], ""))
        self.ids.add(given.get("id", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


def build(source: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    """As `make docs` does it. Not --quiet: warnings that are not told are none that --strict counts."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; one wrong link, and there are none."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.parametrize(
    ("document", "text", "told"),
    [
        ("README.md", "[x](docs/nowhere.md)", "'nowhere.md', but the target is not found"),
        ("docs/resume.md", "[x](upkeep.md#nowhere)", "does not contain an anchor '#nowhere'"),
        ("docs/masks.md", "[x](#nowhere)", "there is no such anchor"),
        ("docs/masks.md", "[x](/masks.md)", "absolute link"),
        ("docs/new.md", "# No line of nav", 'not included in the "nav"'),
    ],
)
def test_what_is_wrong_ends_the_build(tmp_path: Path, document: str, text: str, told: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / document).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode == 1
    assert told in built.stderr


def test_every_document_is_a_page(site: Path) -> None:
    pages = {page.relative_to(site).with_suffix("").as_posix() for page in site.rglob("*.html")}
    documents = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages == documents | {"index", "contributing", "404"}
    assert not list(site.rglob("*.py")), "hooks are no part of it"


def test_the_readme_comes_first(site: Path) -> None:
    told = " ".join(Page(site / "index.html").text.split())
    first = (ROOT / "README.md").read_text().split("\n\n")[1]
    assert first.split(". ")[1].replace("\n", " ") in told


def test_nothing_is_asked_of_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        wrong = [place for place in Page(page).loads if ELSEWHERE.match(place)]
        assert wrong == [], page
        text = page.read_text(encoding="utf-8")
        # The theme's own script fetches for these two alone: a repository's stars, and the drawing of diagrams.
        assert 'data-md-component="source"' not in text
        assert 'class="mermaid"' not in text
    for sheet in site.rglob("*.css"):
        fetched = fetched_by_style(sheet.read_text(encoding="utf-8"))
        assert [place for place in fetched if ELSEWHERE.match(place)] == [], sheet


def test_what_a_browser_would_fetch_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="https://a.example/s.css"><script src="//b.example/s.js"></script>'
        "<style>@import 'https://c.example/s.css'; p {background: url(https://d.example/p.png)}</style>"
        '<p style="background: url(\'https://e.example/p.png\')"><img src="https://f.example/p.png">'
        '<a href="https://g.example">only a link</a><img src="here.png">'
    )
    asked = {place for place in Page(page).loads if ELSEWHERE.match(place)}
    assert {re.sub(r"^(https:)?//(.)\.example.*", r"\2", place) for place in asked} == set("abcdef")


def test_every_setting_is_listed_with_its_meaning(site: Path) -> None:
    page = Page(site / "reference" / "settings.html")
    told = " ".join(page.text.split())
    dotted = [name for name in field_names(RunConfig) if "." in name]
    assert len(dotted) > 90
    assert set(dotted) <= page.ids
    for group in RunConfig().model_dump():
        model = type(getattr(RunConfig(), group))
        for field in getattr(model, "model_fields", {}).values():
            assert " ".join(str(field.description).replace("`", "").split()) in told
    for name in PROTOCOL_NAMES:
        assert name in page.ids
        for field in SETTINGS[name].model_fields.values():
            assert " ".join(str(field.description).replace("`", "").split()) in told


def test_values_and_defaults_are_those_of_the_schema(site: Path) -> None:
    """One of each kind, by hand."""
    text = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    rows = {name: row for row in text.split("<tr>") for name in re.findall(r'id="([a-z_]+\.[a-z_]+)"', row)}
    for name, values, default in (
        ("train.temperature", "number > 0", "0.1"),
        ("network.region_grid", "whole number ≥ 1, ≤ 64", "7"),
        ("network.downsample", "<code>area</code>, <code>bilinear</code>", "area"),
        ("masks.clusters", "whole number ≥ 2, ≤ 256; whole number ≥ 2, ≤ 256", "[2, 256]"),
        ("masks.crf", "true or false", "false"),
        ("schedule.checkpoint_epochs", "list of: whole number ≥ 1", "[]"),
        ("numerics.threads", "whole number ≥ 1 or null", "null"),
    ):
        cells = [
            unescape(cell.split("</td>")[0]).replace("\N{NO-BREAK SPACE}", " ") for cell in rows[name].split("<td>")
        ]
        assert cells[2:4] == [values, f"<code>{default}</code>"], name


def test_every_command_is_listed_with_its_options(site: Path) -> None:
    page = Page(site / "reference" / "commands.html")

    def check(group: TyperGroup, path: str) -> int:
        count = 0
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                count += check(command, f"{path}-{name}")
                continue
            count += 1
            assert f"{path}-{name}" in page.ids
            assert " ".join(str(command.help).replace("`", "").split()) in " ".join(page.text.split())
            for parameter in command.params:
                for option in parameter.opts:
                    assert option in page.text or not option.startswith("-"), option
        return count

    root = get_command(app)
    assert isinstance(root, TyperGroup)
    assert check(root, "cyborgs") > 15
    assert "--with-parent" in page.text

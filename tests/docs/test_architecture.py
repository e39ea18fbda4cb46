"""docs/architecture.md against the code: what it names is there, and imports are those that a test enforces."""

import re

from schemas.stages import STAGE_NAMES
from tests.documents import ROOT, read_blocks, shown_tables
from tests.test_imports import MAY_IMPORT

PAGE = ROOT / "docs" / "architecture.md"
NAME = re.compile(r"_?[A-Za-z_]+")
PATH = re.compile(r"[A-Za-z_.0-9-]+(/[A-Za-z_.0-9-]+)*/?")


def test_who_imports_whom_is_what_test_imports_enforces() -> None:
    folders, _ = shown_tables(PAGE)
    told = {row[0].strip("`/"): set(re.findall(r"`(\w+)`", row[2])) for row in folders}
    assert told == {package: allowed - {package} for package, allowed in MAY_IMPORT.items()}


def test_every_file_of_a_change_is_there_and_has_the_names_that_are_to_be_touched() -> None:
    _, changes = shown_tables(PAGE)
    assert len(changes) >= 15
    for what, touch, tests in changes:
        spans = re.findall(r"`([^`]+)`", touch)
        paths = [span for span in spans if "/" in span or "." in span]
        names = [span for span in spans if NAME.fullmatch(span)]
        assert paths and set(paths) | set(names) >= {span for span in spans if "(" not in span}, what
        for path in [*paths, *re.findall(r"`([^`]+)`", tests)]:
            assert PATH.fullmatch(path) and (ROOT / path).exists(), f"{what}: {path}"
        code = "".join((ROOT / path).read_text() for path in paths if (ROOT / path).is_file())
        for name in names:
            assert re.search(rf"\b{name}\b", code), f"{what}: none of {paths} has {name}"
        assert re.search(r"`tests/\S+\.py`", tests), what


def test_the_picture_has_every_stage_and_launcher() -> None:
    (picture,) = (block.code for block in read_blocks(PAGE, ""))
    launchers = {path.stem for path in (ROOT / "flows" / "launchers").glob("[a-z]*.py")}
    for name in (*STAGE_NAMES, *launchers):
        assert name in picture
    for path in re.findall(r"[a-z]+/(?:[a-z_]+\.py)?", picture.replace("cyborgs/full", "")):
        assert (ROOT / path).exists() or path == "launchers/", path

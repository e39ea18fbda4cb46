"""Documents at the root of the repository as pages of the site, so that no text is kept twice."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
"""Document -> page."""
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for document, page in PAGES.items():
        text = _LINK.sub(_from_root, (ROOT / document).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In pages below docs/, links to these documents."""
    return _LINK.sub(_from_docs, markdown)


def _from_root(link: re.Match[str]) -> str:
    target = link[1].removeprefix("docs/")
    return f"]({PAGES.get(target, target)}"


def _from_docs(link: re.Match[str]) -> str:
    target = link[1]
    return f"]({PAGES.get(target.removeprefix('../'), target)}" if target.startswith("../") else link[0]

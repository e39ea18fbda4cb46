"""RUN/report/index.html: one self-contained page, made from what the run holds; it can be made again at any time."""

import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from plotly.offline import get_plotlyjs

from stages.report.data import Tree, report_data
from storage import layout
from storage.page import mark
from storage.run import Run

_HERE = Path(__file__).parent
_SCRIPTS = ("masks.js", "charts.js", "page.js")
"""In the order in which they need each other."""


def write_report(run: Run) -> str:
    """Render the page from today's artifacts; returns its path below the run."""
    run.store.write(layout.REPORT, mark(render(report_data(run)).encode()))
    return layout.REPORT


def render(data: Tree, *, live: bool = False) -> str:
    """The page that shows `data`.

    Args:
        live: it asks the server that it came from for news.
    """
    return _template().render(
        name=data["run"]["place"],
        fingerprint=data["fingerprint"],
        style=(_HERE / "page.css").read_text(),
        charting=get_plotlyjs(),
        scripts=[(_HERE / name).read_text() for name in _SCRIPTS],
        data=as_script(data),
        live=live,
    )


def as_script(data: Tree) -> str:
    """JSON that may stand inside a page's script: no `<` in it can end that."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html")

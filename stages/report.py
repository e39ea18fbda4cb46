"""RUN/report/index.html: photographs beside their masks per cycle, figures per cycle, and the curves.

One self-contained page, made from what the run holds; it can be made again at any time.
"""

import base64
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from schemas.plan import Step
from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import Standing, Standings, fingerprint, load_artifact
from storage.page import mark
from storage.run import Run

CURVES = (
    ("mask_loss", "mask loss", "equation 2; masks are renewed at the dashed lines"),
    ("vmf_loss", "vMF loss", "equation 3, where it is computed"),
    ("projection_std", "std of projections × √dimension", "1 is spread out, below 0.3 is collapse"),
    ("orphans", "anchors without a positive", "share of all anchors"),
)
MOST_POINTS = 2000
"""Of one stage in one curve: more is not seen, and makes a page of many megabytes."""
_TRAINING = ("warm-up", "train")


@dataclass(frozen=True)
class Row:
    """One photograph with its masks of every cycle, as data URLs."""

    photograph: str
    masks: list[str | None]


def write_report(run: Run) -> str:
    """Render the page from today's artifacts; returns its path below the run.

    Raises:
        DamagedArtifactError: what an evaluation wrote is no longer what it was.
    """
    standings = Standings(run).all()
    evaluations = [found for found in standings if found.step.stage == "evaluate" and found.manifest]
    for found in evaluations:
        load_artifact(run, found)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            run=run.store.url,
            record=run.record,
            standings=standings,
            fingerprint=fingerprint(standings),
            cycles=[found.step.cycle for found in evaluations],
            metrics=_metrics_table(run, evaluations),
            rows=_pictures(run, evaluations),
            curves=_curves(run, standings),
        )
    )
    run.store.write(layout.REPORT, mark(page.encode()))
    return layout.REPORT


def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


def _metrics_table(run: Run, evaluations: list[Standing]) -> list[tuple[str, list[str]]]:
    """(name, value per cycle) in the order of metrics.json."""
    tables = [json.loads(run.store.read(f"{found.folder}/{layout.METRICS}")) for found in evaluations]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [
        (name.replace("_", " "), [f"{table[name]:g}" if name in table else "–" for table in tables]) for name in names
    ]


def _pictures(run: Run, evaluations: list[Standing]) -> list[Row]:
    if not evaluations:
        return []
    folder = f"{evaluations[0].folder}/figures"
    photographs = [path for path in run.store.list(folder) if path.endswith("-photograph.jpg")]
    rows = []
    for path in photographs:
        mask = path.rsplit("/", 1)[-1].replace("-photograph.jpg", "-masks.png")
        masks = [_data_url(run, f"{found.folder}/figures/{mask}") for found in evaluations]
        photograph = _data_url(run, path)
        assert photograph is not None
        rows.append(Row(photograph, masks))
    return rows


def _data_url(run: Run, path: str) -> str | None:
    if run.store.size(path) is None:
        return None
    kind = "jpeg" if path.endswith(".jpg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(run.store.read(path)).decode()}"


def _curves(run: Run, standings: list[Standing]) -> list[tuple[str, str, str]]:
    """(title, explanation, SVG) of every curve that has been logged."""
    series = [
        (found.step, read_metrics(run, found.step, found.key))
        for found in standings
        if found.step.stage in _TRAINING and found.key is not None
    ]
    figures = []
    for name, title, explanation in CURVES:
        svg = _plot(series, name)
        if svg is not None:
            figures.append((title, explanation, svg))
    return figures


def _plot(series: list[tuple[Step, list[dict[str, float]]]], name: str) -> str | None:
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    drawn = False
    for step, values in series:
        # A step at which a loss was not computed leaves a gap in its curve.
        values = values[:: -(-len(values) // MOST_POINTS) or 1]
        heights = [value.get(name, math.nan) for value in values]
        if not all(math.isnan(height) for height in heights):
            steps = [value["step"] for value in values]
            axes.plot(steps, heights, linewidth=1, marker=".", markersize=2, label=step.name)
            drawn = True
        if step.stage == "train" and values:
            axes.axvline(values[0]["step"], color="0.6", linewidth=0.8, linestyle="--")
    if not drawn:
        return None
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False, ncols=3)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]

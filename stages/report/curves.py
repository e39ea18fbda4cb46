"""Curves of the report: what training logged, masks' health, and what was measured after each cycle."""

import math
from typing import Any

from schemas.plan import makes_masks
from stages.main_figures import main_figures
from stages.metrics_log import read_metrics
from stages.monitor import ALARMS
from stages.report.evaluated import Evaluated
from stages.report.memory import Memory
from storage import layout
from storage.artifacts import Standing
from storage.run import Run

Tree = dict[str, Any]
_BAD = {alarm.figure: alarm for alarm in ALARMS}
_COLLAPSE, _ORPHANS = (f"{_BAD[figure].threshold:g}" for figure in ("projection_std", "orphans"))
_SPREAD = f"std of normalised vectors × √dimension; 1 is spread out, below {_COLLAPSE} is collapse"
TRAINING = (
    ("loss", "Loss", "what is minimised"),
    ("mask_loss", "Mask loss", "equation 2; masks are renewed at the dashed lines"),
    ("vmf_loss", "vMF loss", "equation 3, where it is computed"),
    ("projection_std", "Spread of projections", _SPREAD),
    ("orphans", "Anchors without a positive", f"share of all anchors; above {_ORPHANS} masks are too fine"),
    ("positives_per_anchor", "Positives an anchor", "sampled regions of the other view with the anchor's id"),
    ("shared_negatives", "Negatives with the anchor's id", "share of the negatives, all in other photographs"),
    ("regions_per_view", "Regions a view", "how many regions of a photograph a view still shows"),
    ("prototype_usage", "Use of prototypes", "of the vMF loss: 1 is an even share of cells each, 0 is all with one"),
    ("learning_rate", "Learning rate", ""),
    ("ema_momentum", "EMA momentum", "of the target network: at 1 it stands still"),
    ("images_per_second", "Photographs a second", "of all processes"),
)
"""Figure of the metrics log, its title, and how to read it."""
HEALTH = (
    ("regions_per_photograph", "Regions a photograph", ""),
    ("effective_regions", "Effective regions", "2 to the power of the entropy of their areas; 1 is one region for all"),
    ("size_entropy", "Entropy of region sizes, bits", ""),
    ("edge_agreement", "Borders on image edges", "gradient at region borders over that anywhere; 1 is chance"),
    ("mask_agreement", "Agreement with the last cycle", "adjusted Rand index; 1 is the same, 0 is chance"),
)
MOST_POINTS = 1000
"""Of one stage in one curve: more is not seen, and makes a page of many megabytes."""
_TRAINING = ("warm-up", "train")


def training_curves(run: Run, standings: list[Standing], memory: Memory) -> list[Tree]:
    """A chart of each figure that was logged, one line a stage; a loss that was not computed at a step is a gap.

    `marks` are the steps at which masks were renewed, `levels` what the learning monitor holds a figure against.
    """
    logged = [
        (found.step, _logged(run, found, found.key, memory))
        for found in standings
        if found.step.stage in _TRAINING and found.key is not None
    ]
    renewed = [
        step.first_epoch * _steps_per_epoch(run, standings)
        for step, lines in logged
        if step.cycle is not None and makes_masks(run.config, step.cycle) and lines
    ]
    charts: list[Tree] = []
    for figure, title, note in TRAINING:
        lines = [
            {"name": step.name, "x": [each["step"] for each in log], "y": [_finite(each.get(figure)) for each in log]}
            for step, log in logged
            if any(figure in each for each in log)
        ]
        if lines:
            charts.append({"title": title, "note": note, "x": "step", "lines": lines, "marks": renewed})
            if figure in _BAD:
                charts[-1]["levels"] = [{"value": _BAD[figure].threshold, "title": _BAD[figure].name}]
    return charts


def _logged(run: Run, found: Standing, key: str, memory: Memory) -> list[Tree]:
    folder = layout.log_folder(found.step)
    logs = {path: size for path, size in run.store.sizes(folder).items() if path.startswith(f"{folder}/{key}-")}
    return memory.recall(f"{found.step.name} log", logs, lambda: _thinned(read_metrics(run, found.step, key)))


def _thinned(lines: list[Tree]) -> list[Tree]:
    """At most MOST_POINTS of them, the last always."""
    between = lines[:-1]
    return between[:: -(-len(between) // (MOST_POINTS - 1)) or 1] + lines[-1:]


def _steps_per_epoch(run: Run, standings: list[Standing]) -> int:
    index = next(found.manifest for found in standings if found.step.stage == "index-images")
    rows = index.summary["photographs"] if index is not None else 0
    return int(rows) // run.config.optimization.batch_size


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def health(standings: list[Standing], evaluated: list[Evaluated]) -> Tree:
    """Label-free figures of the masks: which there are, and one row for each cycle that has some."""
    cycles: dict[int, Tree] = {}
    for each in evaluated:
        if each.step.cycle is not None:
            cycles[each.step.cycle] = dict(each.metrics)
    for found in standings:
        if found.step.stage == "bootstrap-masks" and found.step.cycle is not None and found.manifest is not None:
            # What the masks' own stage says of all photographs goes before what is measured on some.
            cycles.setdefault(found.step.cycle, {}).update(found.manifest.summary)
    rows: list[Tree] = [
        {"cycle": cycle, "figures": {name: known[name] for name, _, _ in HEALTH if name in known}}
        | ({"kept_from": known["kept_from"]} if "kept_from" in known else {})
        for cycle, known in sorted(cycles.items())
    ]
    known_rows = [row for row in rows if row["figures"]]
    titles = [
        {"name": name, "title": title, "note": note}
        for name, title, note in HEALTH
        if any(name in row["figures"] for row in known_rows)
    ]
    return {"figures": titles, "cycles": known_rows}


def evaluations(evaluated: list[Evaluated]) -> list[Tree]:
    """What `evaluate` measured over the epochs (Fig. 5b): a chart of each protocol, and of the spread of features."""
    label_free: dict[str, list[tuple[int, float]]] = {}
    protocols: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for each in evaluated:
        epochs = each.step.last_epoch
        for name in ("projection_std", "feature_std", "projection_rank", "feature_rank"):
            if name in each.metrics:
                label_free.setdefault(name, []).append((epochs, each.metrics[name]))
        for measured, title, result in each.results:
            for name in main_figures(result.protocol):
                if name in result.figures:
                    lines = protocols.setdefault(title, {})
                    lines.setdefault(name, []).append((measured, result.figures[name]))
    charts = [_chart(title, "", lines) for title, lines in protocols.items()]
    for ending, title, note in (
        ("std", "Spread of features and projections", _SPREAD),
        ("rank", "Effective rank of features and projections", "how many directions they use"),
    ):
        lines = {name: points for name, points in label_free.items() if name.endswith(ending)}
        if lines:
            charts.append(_chart(title, note, lines))
    return charts


def _chart(title: str, note: str, lines: dict[str, list[tuple[int, float]]]) -> Tree:
    return {
        "title": title,
        "note": note,
        "x": "epochs trained",
        "lines": [
            {"name": name.replace("_", " "), "x": [x for x, _ in points], "y": [y for _, y in points]}
            for name, points in lines.items()
        ],
        "marks": [],
    }

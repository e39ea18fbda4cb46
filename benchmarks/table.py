"""The figures as a table for people, and as JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figure import Figure

HEADER = ("worked on, a round", "figure", "value", "target", "spread", "rounds", "made from", "remarks")


def as_markdown(figures: Sequence[Figure], *, machine: str) -> str:
    """A Markdown table, which is readable as it is; the machine below it."""
    rows = [HEADER, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, "", machine, ""])


def write_json(path: Path, figures: Sequence[Figure], *, machine: str, quick: bool) -> None:
    """A list of objects, one a figure."""
    found = [
        {
            "figure": figure.figure,
            "value": figure.value,
            "target": figure.target,
            "better": figure.better,
            "met": figure.met,
            "unit": figure.unit,
            "spread": list(figure.spread),
            "rounds": figure.rounds,
            "counts": figure.counts,
            "parts": figure.parts,
            "note": figure.note,
            "quick": quick,
            "machine": machine,
        }
        for figure in figures
    ]
    path.write_text(json.dumps(found, indent=1) + "\n")


def _row(figure: Figure) -> tuple[str, ...]:
    sign = "≤" if figure.better == "lower" else "≥"
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    return (
        _named(figure.counts),
        figure.figure,
        f"{_number(figure.value)}{unit}" + ("" if figure.met else " ✗"),
        f"{sign} {_number(figure.target)}",
        f"{_number(figure.spread[0])} – {_number(figure.spread[1])}",
        str(figure.rounds),
        _named(figure.parts),
        figure.note,
    )


def _named(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"

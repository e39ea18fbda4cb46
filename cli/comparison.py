"""Tables of `cyborgs compare`, for a terminal, a spreadsheet or a page."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.show import print_table
from schemas.comparison import Summary, Table
from schemas.errors import ConfigError
from schemas.results import COUNTS


def print_comparison(paths: Sequence[Path], form: str) -> None:
    """Print the results side by side.

    Raises:
        CyborgsError: an unknown format, or a file that is no result.
    """
    if form not in ("table", "csv", "markdown"):
        raise ConfigError(f"--format {form}: choose table, csv or markdown")
    from stages.comparison import compare_results, read_result

    tables = compare_results([read_result(path) for path in paths])
    if form == "csv":
        _print_csv(tables)
        return
    for number, table in enumerate(tables):
        if number:
            print()
        note = ", quick settings: not for comparison with other work" if table.smoke else ""
        title = f"{table.protocol} on {Path(table.data).name}{note}"
        print(f"**{title}**\n" if form == "markdown" else title)
        header, rows = _cells(table)
        if form == "markdown":
            for row in (header, ["---"] * len(header), *rows):
                print("| " + " | ".join(row) + " |")
        else:
            print_table(header, rows)


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows: figure, each column, its difference from the first, the paper's number where there is one."""
    names = [f"{name} ({seeds} seeds)" if seeds > 1 else name for name, seeds in table.columns]
    with_paper = any(row.paper for row in table.rows)
    header = ["figure", *names, *(f"{name} - {table.columns[0][0]}" for name, _ in table.columns[1:])]
    if with_paper:
        header.append("the paper (ResNet-50, 800 epochs on COCO)")
    rows = []
    for row in table.rows:
        if row.figure in COUNTS:
            cells = [row.figure, *map(_count, row.values), *("" for _ in row.differences[1:])]
        else:
            cells = [row.figure, *map(_value, row.values), *(_value(each, sign=True) for each in row.differences[1:])]
        if with_paper:
            cells.append(f"{row.paper[0]:g} ({row.paper[1]})" if row.paper else "")
        rows.append(cells)
    return header, rows


def _value(summary: Summary | None, *, sign: bool = False) -> str:
    if summary is None:
        return "–"
    mean = f"{summary.mean:+.2f}" if sign else f"{summary.mean:.2f}"
    return f"{mean} ± {summary.half_width:.2f}" if summary.half_width else mean


def _count(summary: Summary | None) -> str:
    """How many there were: of several seeds, on average."""
    return "–" if summary is None else f"{round(summary.mean, 2):,.12g}"


def _print_csv(tables: Sequence[Table]) -> None:
    """One line per figure and column, for a spreadsheet or a data frame."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        ["protocol", "data", "smoke", "figure", "weights", "seeds", "mean", "interval", "difference",
         "difference_interval", "paper", "paper_source"]
    )  # fmt: skip
    for table in tables:
        for row in table.rows:
            for (name, seeds), value, change in zip(table.columns, row.values, row.differences, strict=True):
                if value is None:
                    continue
                paper = row.paper or ("", "")
                writer.writerow(
                    [table.protocol, table.data, table.smoke, row.figure, name, seeds, value.mean,
                     _number(value.half_width), _number(change.mean if change else None),
                     _number(change.half_width if change else None), *paper]
                )  # fmt: skip


def _number(value: float | None) -> float | str:
    return "" if value is None else value

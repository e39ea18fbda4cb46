"""`cyborgs compare --plot`: what pretraining buys with few labels: scores against the share of labels learnt from."""

from collections.abc import Sequence
from pathlib import Path

from schemas.digests import digest_json
from schemas.errors import ConfigError, DataError
from schemas.results import ProtocolResult
from stages.comparison import summarise
from stages.main_figures import MAIN

_SUFFIXES = (".png", ".svg", ".pdf")

Curve = dict[float, list[float]]
"""Share of the labels -> the figure of each seed."""


def label_curves(results: Sequence[ProtocolResult]) -> dict[tuple[str, str], dict[str, Curve]]:
    """(protocol, figure) -> weights -> curve, of results that differ in nothing but labels, weights and seeds.

    Raises:
        DataError: no protocol was measured at two shares, or other settings differ too.
    """
    found: dict[tuple[str, str], dict[str, Curve]] = {}
    settings: dict[str, str] = {}
    seen: set[str] = set()
    for result in results:
        own = {name: value for name, value in result.settings.items() if name not in ("labels", "steps")}
        # Steps of "imagenet-semi" follow from the labels.
        if result.protocol != "imagenet-semi":
            own["steps"] = result.settings.get("steps")
        mark = digest_json([own, result.smoke, result.data.path])
        if settings.setdefault(result.protocol, mark) != mark:
            raise DataError(f"{result.protocol}: results have different settings or data: plot those of one kind alone")
        same = digest_json([result.protocol, result.weights.digest, result.seeds, result.settings["labels"]])
        if same in seen:
            raise DataError(
                f"{result.protocol} of {result.weights.name}: the same weights, seeds and labels are given twice"
            )
        seen.add(same)
        for figure in MAIN.get(result.protocol, ()):
            if figure in result.figures:
                curves = found.setdefault((result.protocol, figure), {})
                curve = curves.setdefault(f"{result.weights.name}\0{result.weights.kind}", {})
                curve.setdefault(result.settings["labels"], []).append(result.figures[figure])
    shares = {share for curves in found.values() for curve in curves.values() for share in curve}
    if len(shares) < 2:
        raise DataError("--plot: give results of at least two shares of labels, measured with --labels")
    return found


def draw_label_curves(results: Sequence[ProtocolResult], path: Path) -> None:
    """Draw them, with 95 % intervals where there are several seeds.

    Raises:
        ConfigError: matplotlib writes no such file.
        DataError: as `label_curves`.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--plot {path}: name a file that ends in {', '.join(_SUFFIXES)}")
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    charts = label_curves(results)
    figure = Figure(figsize=(5.5 * len(charts), 4), layout="constrained")
    for axes, ((protocol, name), curves) in zip(
        figure.subplots(1, len(charts), squeeze=False)[0], charts.items(), strict=True
    ):
        for label, curve in curves.items():
            shares = sorted(curve)
            each = [summarise(curve[share]) for share in shares]
            axes.errorbar(
                [100 * share for share in shares],
                [summary.mean for summary in each],
                yerr=[summary.half_width or 0.0 for summary in each],
                marker="o",
                capsize=3,
                label=label.split("\0")[0],
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=None))
        axes.set_xlabel("labelled photographs learnt from")
        axes.set_ylabel(name)
        axes.set_title(protocol)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)

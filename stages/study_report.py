"""The table of a study: each variant's figures over its seeds, as csv, Markdown and plots.

    python -P -m stages.study_report ROOT

reads what the runs of the study hold so far and writes ROOT/table.csv, ROOT/table.md and ROOT/curves.png.
"""

import csv
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.comparison import Summary
from schemas.config import RunConfig
from schemas.errors import CyborgsError, DataError
from schemas.plan import Step, plan
from schemas.results import ProtocolResult, SkippedProtocol
from schemas.study import Study
from stages.comparison import summarise
from stages.main_figures import main_figures
from storage import layout
from storage.artifacts import Standings
from storage.run import defines_result, difference, find_run
from storage.studies import Member, members, result_path


@dataclass(frozen=True)
class Measured:
    """A protocol's result for one member of a study."""

    variant: str
    seed: int
    title: str
    """Of the planned measurement."""
    epochs: int
    """After so many epochs; 0 of weights that are measured as they are."""
    result: ProtocolResult


def write_study_report(root: Path) -> list[Path]:
    """Write all files; their paths."""
    study = Study.model_validate_json((root / "study.json").read_bytes())
    found = list(collect(study, root))
    last = at_the_end(study, found)
    written = [
        _write(root / "table.csv", _csv(found).encode()),
        _write(root / "table.md", markdown(study, last).encode()),
    ]
    curves = root / "curves.png"
    if draw_curves(found, curves):
        written.append(curves)
    return written


def collect(study: Study, root: Path) -> Iterator[Measured]:
    """All results that are there and that the study still asks for; a member that cannot be read is named."""
    for member in sorted(members(study), key=lambda each: list(study.variants).index(each.variant)):
        try:
            if study.variants[member.variant].weights is None:
                yield from _of_run(study, member, root)
            else:
                yield from _of_weights(study, member, root)
        except (CyborgsError, ValueError) as error:
            print(f"{member.name} is left out of the table: {error}", file=sys.stderr)


def _of_weights(study: Study, member: Member, root: Path) -> Iterator[Measured]:
    for planned in study.measure:
        file = root / result_path(study, member, planned)
        if file.is_file():
            result = ProtocolResult.model_validate_json(file.read_bytes())
            yield Measured(member.variant, member.seed, planned.title, 0, result)


def _of_run(study: Study, member: Member, root: Path) -> Iterator[Measured]:
    run = find_run(member.run(str(root)))
    if run is None or not _is_asked_for(study.config(member.variant, member.seed), run.config):
        return
    for found in Standings(run).all():
        step: Step = found.step
        if step.stage != "evaluate" or found.state != "done":
            continue
        for path in run.store.list(f"{found.folder}/{layout.PROTOCOLS}"):
            text = run.store.read(path)
            if SkippedProtocol.read(text) is None:
                result = ProtocolResult.model_validate_json(text)
                title, epoch = layout.read_protocol_file(path)
                yield Measured(member.variant, member.seed, title, epoch or step.last_epoch, result)


def _is_asked_for(asked: RunConfig, there: RunConfig) -> bool:
    """Whether a run has today's settings; what they leave to the machine is as the run has it."""
    return not any(
        defines_result(setting) and value not in ("auto", None)
        for setting, (value, _) in difference(asked, there).items()
    )


def at_the_end(study: Study, found: list[Measured]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(variant, title) -> figure -> its value of each seed whose last planned measurement is there."""
    ends = {variant: _ends(study, variant) for variant in study.variants}
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for each in found:
        if ends[each.variant].get(each.title) != each.epochs:
            continue
        figures = values.setdefault((each.variant, each.title), {})
        for figure, value in each.result.figures.items():
            figures.setdefault(figure, []).append(value)
    return values


def _ends(study: Study, variant: str) -> dict[str, int]:
    """Title -> epochs after which it is measured for the last time."""
    if study.variants[variant].weights is not None:
        return {planned.title: 0 for planned in study.measure}
    config = study.config(variant, study.seeds[0])
    evaluations = [step for step in plan(config) if step.stage == "evaluate"]
    return {
        planned.title: step.last_epoch
        for planned in study.measure
        for step in evaluations
        if step.cycle is not None and planned.is_due(step.cycle, last=len(evaluations) - 1)
    }


def markdown(study: Study, last: dict[tuple[str, str], dict[str, list[float]]]) -> str:
    """A row for each variant, mean and 95 % interval of each figure; how many seeds where some are not there yet."""
    columns = [(planned.title, figure) for planned in study.measure for figure in main_figures(planned.protocol)]
    header = ["variant", *(f"{title} {figure}" for title, figure in columns), "seeds"]
    rows = [header, ["---"] * len(header)]
    for variant in study.variants:
        samples = [last.get((variant, title), {}).get(figure, []) for title, figure in columns]
        counts = sorted({len(sample) for sample in samples}) or [0]
        rows.append([variant, *map(_cell, samples), "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(sample: list[float]) -> str:
    if not sample:
        return "–"
    summary: Summary = summarise(sample)
    return f"{summary.mean:.2f}" + (f" ± {summary.half_width:.2f}" if summary.half_width is not None else "")


def _csv(found: list[Measured]) -> str:
    """One line for each variant, seed, epoch and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "seed", "epochs", "protocol", "figure", "value"])
    for each in found:
        for figure, value in each.result.figures.items():
            writer.writerow([each.variant, each.seed, each.epochs, each.title, figure, value])
    return text.getvalue()


def draw_curves(found: list[Measured], path: Path) -> bool:
    """Fig. 5b: each main figure over epochs, mean over seeds; nothing where nothing was measured twice."""
    from matplotlib.figure import Figure

    curves: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = {}
    for each in found:
        shown = main_figures(each.result.protocol)[:1]
        for figure in shown:
            if figure in each.result.figures:
                of_variant = curves.setdefault((each.title, figure), {}).setdefault(each.variant, {})
                of_variant.setdefault(each.epochs, []).append(each.result.figures[figure])
    if all(len(points) < 2 for variants in curves.values() for points in variants.values()):
        return False
    figure_ = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    for axes, ((title, name), variants) in zip(
        figure_.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        for variant, points in variants.items():
            epochs = sorted(points)
            each_epoch = [summarise(points[epoch]) for epoch in epochs]
            axes.errorbar(
                epochs,
                [summary.mean for summary in each_epoch],
                yerr=[summary.half_width or 0.0 for summary in each_epoch],
                marker="o",
                capsize=3,
                label=variant,
            )
        axes.set(title=title, xlabel="epochs of pretraining", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    picture = io.BytesIO()
    figure_.savefig(picture, dpi=150)
    _write(path, picture.getvalue())
    return True


def _write(path: Path, data: bytes) -> Path:
    aside = path.with_name(f"{path.name}.partial-{os.getpid()}")  # another command may write it too
    aside.write_bytes(data)
    aside.replace(path)
    return path


def main(arguments: list[str]) -> int:
    """The command; an exit code."""
    try:
        if len(arguments) != 1 or not Path(arguments[0], "study.json").is_file():
            raise DataError(f"{' '.join(arguments)}: name the folder of one study")
        write_study_report(Path(arguments[0]))
    except CyborgsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

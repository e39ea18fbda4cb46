"""`cyborgs export` and `cyborgs doctor`: the backbone for another library, and what may be wrong with a machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import EncoderOption, RunArgument


def export(
    run: RunArgument,
    form: Annotated[str, typer.Option("--format", help="torchvision, timm, detectron2, mmdet or safetensors")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="a model card goes beside it")],
    encoder: EncoderOption = "online",
    cycle: Annotated[int | None, typer.Option("--cycle", min=0, help="left out: the last")] = None,
    figures: Annotated[
        list[Path] | None,
        typer.Option("--figures", metavar="RESULT", help="results of `cyborgs evaluate` for the card; or several"),
    ] = None,
) -> None:
    """Take the backbone home: written for a library, loaded back by it where it is installed."""
    from cli.measure import encoder_name
    from schemas.plan import plan
    from stages.comparison import read_result
    from stages.exports import export_backbone
    from storage.run import open_run

    results = [read_result(path) for path in figures or []]
    opened = open_run(run)
    written = export_backbone(opened, form, out, encoder=encoder_name(encoder), cycle=cycle, results=results)
    typer.echo(f"{written.file}: {written.step.name}; {written.check}")
    last = [step for step in plan(opened.config) if step.stage in ("warm-up", "train")][-1]
    if cycle is None and written.step != last:
        typer.echo(f"{last.name} is not done yet: `cyborgs run --run {run}` goes on with it", err=True)
    typer.echo(f"{written.card}")


def doctor(
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="DIR", help="photographs to look through; or several")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="EVAL_DIR", help="photographs that must not be among them; or several"),
    ] = None,
) -> None:
    """Look for what will go wrong: the machine, and broken, duplicate or leaked photographs; exit code 1 if so."""
    from stages.doctor import examine

    try:
        from prefect.settings import get_current_settings
    except ImportError:
        server = None  # which is found
    else:
        server = get_current_settings().api.url

    found = 0
    for finding in examine(data or [], against or [], server=server):
        typer.echo(f"{finding.state:<9}{finding.what}")
        if finding.advice:
            typer.echo(f"         {finding.advice}")
        found += finding.state == "bad"
    raise typer.Exit(1 if found else 0)

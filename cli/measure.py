"""`cyborgs evaluate` and `cyborgs compare`: what weights are worth, and beside each other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.arguments import EncoderOption, SetOption
from schemas.errors import ConfigError, CyborgsError

if TYPE_CHECKING:
    from schemas.results import Encoder


def evaluate(
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="mask-quality, region-linear, voc07-svm, cocostuff-linear or knn")
    ],
    weights: Annotated[str, typer.Option("--weights", metavar="FILE|RUN|random", help="what to measure")],
    data: Annotated[
        list[str], typer.Option("--data", metavar="DIR", help="labelled photographs in their published layout")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="metrics.json; left out: printed")] = None,
    set_: SetOption = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="small settings: minutes on a processor")] = False,
    cycle: Annotated[int | None, typer.Option("--cycle", min=0, help="of a run; left out: its last")] = None,
    encoder: EncoderOption = "online",
) -> None:
    """Measure weights by a frozen protocol; its settings are in configs/evaluation/PROTOCOL.yaml."""
    from schemas.protocols import load_protocol, protocol_name

    name = protocol_name(protocol)
    settings = load_protocol(name, set_ or [], smoke=smoke)
    wanted = encoder_name(encoder)
    if len(data) != 1:
        raise ConfigError(f"--data {' '.join(data)}: a protocol measures one data set")
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.absolute().parent} does not exist: make it first")
    if out is not None and (out.is_dir() or not os.access(out if out.exists() else out.absolute().parent, os.W_OK)):
        raise ConfigError(f"--out {out}: not a file that can be written")
    from stages.protocols import evaluate_protocol
    from storage.local import LocalStore

    result = evaluate_protocol(
        name,
        settings,
        weights=weights,
        data=data[0],
        smoke=smoke,
        cycle=cycle,
        encoder=wanted,
        tell=lambda line: typer.echo(line, err=True),
    )
    for figure, value in result.figures.items():
        typer.echo(f"{figure:<30}{value:g}", err=True)
    text = result.model_dump_json(indent=1)
    if out is None:
        typer.echo(text)
    else:
        try:
            LocalStore(out.absolute().parent).write(out.name, f"{text}\n".encode())
        except (CyborgsError, OSError):
            typer.echo(text)  # measuring it may have taken hours
            raise
        typer.echo(f"{name} of {result.weights.name} in {result.seconds or 0:.0f} s: {out}")


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="metrics.json files of evaluations")],
    form: Annotated[str, typer.Option("--format", help="table, csv or markdown")] = "table",
) -> None:
    """Figures side by side, with differences from the first; several seeds give a mean and its 95 % interval."""
    from cli.comparison import print_comparison

    print_comparison(results, form)


def encoder_name(text: str) -> "Encoder":
    """Raises ConfigError where it is not one of the two."""
    from schemas.results import ENCODERS

    for known in ENCODERS:
        if text == known:
            return known
    raise ConfigError(f"--encoder {text}: choose online or target")

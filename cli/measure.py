"""`cyborgs evaluate` and `cyborgs compare`: what weights are worth, and beside each other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.arguments import EncoderOption, SetOption
from schemas.errors import ConfigError, CyborgsError

if TYPE_CHECKING:
    from schemas.results import Encoder, ProtocolResult

_FROZEN = "mask-quality, region-linear, voc07-svm, cocostuff-linear, knn"
_TRANSFER = "imagenet-semi, voc-detection, coco-instance, lvis-instance, cityscapes-fcn, cocostuff-fcn"


def evaluate(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help=f"frozen: {_FROZEN}; fine-tuned: {_TRANSFER}")],
    weights: Annotated[str, typer.Option("--weights", metavar="FILE|RUN|random", help="what to measure")],
    data: Annotated[
        list[str], typer.Option("--data", metavar="DIR", help="labelled photographs in their published layout")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="metrics.json; left out: printed")] = None,
    set_: SetOption = None,
    labels: Annotated[
        float | None, typer.Option("--labels", help="share of the labels to learn from, such as 0.01")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="small settings: minutes on a processor")] = False,
    cycle: Annotated[int | None, typer.Option("--cycle", min=0, help="of a run; left out: its last")] = None,
    encoder: EncoderOption = "online",
    network: Annotated[
        Path | None, typer.Option("--network", metavar="FILE", help="write the fine-tuned network, as .safetensors")
    ] = None,
) -> None:
    """Measure weights by a protocol; its settings are in configs/evaluation/PROTOCOL.yaml.

    A fine-tuning that was stopped goes on when the same command is given again.
    """
    from schemas.planned_protocols import TRANSFER_NAMES
    from schemas.protocols import load_protocol, protocol_name

    name = protocol_name(protocol)
    share = [] if labels is None else [f"labels={labels}"]
    settings = load_protocol(name, [*(set_ or []), *share], smoke=smoke)
    wanted = encoder_name(encoder)
    if len(data) != 1:
        raise ConfigError(f"--data {' '.join(data)}: a protocol measures one data set")
    if network is not None and name not in TRANSFER_NAMES:
        raise ConfigError(f"--network {network}: {name} fine-tunes nothing; `cyborgs export` writes a run's backbone")
    for option, file in (("--out", out), ("--network", network)):
        _check_writable(option, file)
    from stages.attempt import Attempt, beside
    from stages.interruption import stop_on_signals
    from stages.protocols import evaluate_protocol
    from stages.team import find_team

    with stop_on_signals() as stop:
        attempt = Attempt(
            tell=lambda line: typer.echo(line, err=True),
            stop=stop,
            team=find_team(),
            network_file=network,
            moving=lambda **_: None,
        )
        if out is not None:
            attempt.kept, attempt.keep, forget = beside(out)
        attempt.team.meet()
        result = evaluate_protocol(
            name,
            settings,
            weights=weights,
            data=data[0],
            smoke=smoke,
            cycle=cycle,
            encoder=wanted,
            attempt=attempt,
        )
    if attempt.team.leads:
        _hand_over(result, out)
        if out is not None:
            forget()
    attempt.team.close()


def _check_writable(option: str, file: Path | None) -> None:
    """Raises ConfigError before anything is measured."""
    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{option} {file}: the folder {folder} does not exist: make it first")
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise ConfigError(f"{option} {file}: not a file that can be written")


def _hand_over(result: "ProtocolResult", out: Path | None) -> None:
    """Show the figures, and write them where somebody asked for it."""
    from storage.local import LocalStore

    for figure, value in result.figures.items():
        typer.echo(f"{figure:<30}{value:g}", err=True)
    text = result.model_dump_json(indent=1)
    if out is None:
        typer.echo(text)
        return
    try:
        LocalStore(out.absolute().parent).write(out.name, f"{text}\n".encode())
    except (CyborgsError, OSError):
        typer.echo(text)  # measuring it may have taken hours
        raise
    typer.echo(f"{result.protocol} of {result.weights.name} in {result.seconds or 0:.0f} s: {out}")


def compare(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="metrics.json files of evaluations")],
    form: Annotated[str, typer.Option("--format", help="table, csv or markdown")] = "table",
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="draw scores against --labels, as .png, .svg or .pdf")
    ] = None,
) -> None:
    """Figures side by side, with differences from the first; several seeds give a mean and its 95 % interval."""
    from cli.comparison import print_comparison

    _check_writable("--plot", plot)
    print_comparison(results, form)
    if plot is not None:
        from stages.comparison import read_result
        from stages.label_curves import draw_label_curves

        draw_label_curves([read_result(path) for path in results], plot)
        typer.echo(f"plot: {plot}", err=True)


def encoder_name(text: str) -> "Encoder":
    """Raises ConfigError where it is not one of the two."""
    from schemas.results import ENCODERS

    for known in ENCODERS:
        if text == known:
            return known
    raise ConfigError(f"--encoder {text}: choose online or target")

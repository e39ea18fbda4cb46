"""`cyborgs`: the commands that people type."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from cli.arguments import RunArgument, SetOption
from cli.measure import compare, evaluate
from cli.pictures import masks_app
from cli.study import study
from cli.take_home import doctor, export
from schemas.errors import DEBUG, EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, CyborgsError, StageFailedError
from schemas.stages import STAGE_NAMES, StageRequest

app = typer.Typer(
    help="Pretrain a backbone on unlabelled scene photographs (CYBORGS, ECCV 2022).\n\n"
    "Any command takes --debug, for tracebacks.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(masks_app, name="masks")

ConfigArgument = Annotated[str, typer.Argument(help="a name under configs/ (demo, small, coco) or a YAML file")]
RunOption = Annotated[str, typer.Option("--run", metavar="URL", help="path or URL of the run")]

_SEVERAL = ("--data", "--set", "--images", "--figures", "--against")
"""Options that take all values up to the next option: `--data DIR1 DIR2`."""


@app.command()
def run(
    config: Annotated[
        str | None,
        typer.Argument(
            help="a name under configs/ (demo, small, coco) or a YAML file; left out: what --run was made with"
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="DIR", help="folders of photographs, or COCO .json files; several may follow"),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="URL", help="where to keep it (default: runs/CONFIG); the same again resumes"),
    ] = None,
    set_: SetOption = None,
    update: Annotated[bool, typer.Option("--update", help="let a changed config change an existing run")] = False,
    create: Annotated[bool, typer.Option("--create", help="only make the run, and start no stage")] = False,
) -> None:
    """Pretrain on a folder of photographs; the same command again goes on where it stopped."""
    from cli.run import create_run, run_pipeline

    start = create_run if create else run_pipeline
    raise typer.Exit(start(config, data=data or [], url=run, assignments=set_ or [], update=update))


@app.command()
def extend(
    run: RunArgument,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="in all, more than the run has")],
) -> None:
    """Train a run for more epochs than it was made for; all that it has reached stays as it is."""
    from cli.run import extend_run

    raise typer.Exit(extend_run(run, epochs=epochs))


@app.command()
def fork(
    run: RunArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="path or URL of the run to make")],
    set_: SetOption = None,
) -> None:
    """Make a run beside another with some settings changed, and everything that they leave valid."""
    from cli.upkeep import fork_run

    fork_run(run, new, assignments=set_ or [])


@app.command()
def gc(
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
) -> None:
    """Remove what no setting of a run leads to any more: artifacts of earlier settings."""
    from cli.upkeep import collect_garbage

    collect_garbage(run, dry_run=dry_run)


@app.command()
def plan(
    config: ConfigArgument,
    set_: SetOption = None,
    settings: Annotated[bool, typer.Option("--settings", help="list every setting with its meaning")] = False,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="estimate storage for so many photographs")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="that train at once")] = 1,
    seconds_per_image: Annotated[
        float | None,
        typer.Option(
            "--seconds-per-image",
            min=1e-9,
            help="estimate times too; of one GPU: 1 / (the images/s that a training shows)",
        ),
    ] = None,
    cores: Annotated[int, typer.Option("--cores", min=1, help="that decode photographs for the index")] = 8,
) -> None:
    """Show the stages that a config leads to, all its settings, or what they will cost."""
    from cli.show import print_plan, print_settings
    from schemas.loading import load_config

    loaded = load_config(config, set_ or [])
    if settings:
        print_settings(loaded)
        return
    print_plan(config, loaded)
    if images is None:
        return
    from cli.costs import print_costs

    print_costs(loaded, images=images, gpus=gpus, seconds_per_image=seconds_per_image, cores=cores)


@app.command()
def status(run: RunArgument) -> None:
    """Show where each stage of a run stands."""
    from cli.show import print_status
    from storage.run import open_run

    print_status(open_run(run))


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run, one page that opens without a network: RUN/report/index.html."""
    from stages.report.page import write_report
    from storage.run import open_run

    opened = open_run(run)
    print(f"{opened.store.url}/{write_report(opened)}")


@app.command()
def watch(
    run: RunArgument,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="on 127.0.0.1; 0: any free one")] = 8787,
) -> None:
    """Serve the report of a run on this machine alone, live while the run goes on, until Ctrl-C."""
    from cli.watch import watch_run

    watch_run(run, port=port)


@app.command()
def verify(run: RunArgument) -> None:
    """Read every committed file of a run and hold it against its manifest."""
    from cli.show import print_verification
    from storage.run import open_run

    raise typer.Exit(print_verification(open_run(run)))


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(STAGE_NAMES))],
    run: RunOption,
    cycle: Annotated[int | None, typer.Option("--cycle", min=0, help="for the stages of a cycle")] = None,
    force: Annotated[bool, typer.Option("--force", help="compute again what is done")] = False,
) -> None:
    """Run one stage of a run, here and now."""
    from schemas.errors import ConfigError

    for known in STAGE_NAMES:
        if name == known:
            break
    else:
        raise ConfigError(f"stage {name!r}: choose from {', '.join(STAGE_NAMES)}")
    from stages.__main__ import execute

    raise typer.Exit(execute(StageRequest(run=run, stage=known, cycle=cycle, force=force)))


@app.command()
def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="of the server, where none is given")] = 4200,
    limit: Annotated[int, typer.Option("--limit", min=1, help="flows at once; 1 keeps a GPU to one stage")] = 1,
) -> None:
    """Take up `prefect deployment run cyborgs/full` on this machine, without containers."""
    from flows.serving import serve as serve_deployments

    serve_deployments(port=port, limit=limit)


for command in (study, evaluate, compare, export, doctor):
    app.command()(command)


def expand_options(arguments: Sequence[str]) -> list[str]:
    """`--data A B` -> `--data A --data B`; stops at the next option."""
    expanded: list[str] = []
    several, is_first = "", False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            several, is_first = (name, not equals) if name in _SEVERAL else ("", False)
        else:
            if several and not is_first:
                expanded.append(several)
            is_first = False
        expanded.append(argument)
    return expanded


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 2 for what the user can mend, 1 for faults, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
        os.environ[DEBUG] = "1"  # for the stages, which may be other processes
    try:
        code = app(args=expand_options(given), prog_name="cyborgs", standalone_mode=False)
    except CyborgsError as error:
        # A stage that was given bad input has said so itself.
        said = isinstance(error, StageFailedError) and error.exit_code == EXIT_BAD_INPUT
        code = error.exit_code if said and not debug else _tell(str(error), error.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        code = _tell("stopped; the same command goes on where it stopped", EXIT_INTERRUPTED, debug=debug)
    except TyperException as error:  # a mistake on the command line
        context = getattr(error, "ctx", None)
        command = "cyborgs" if context is None else context.command_path
        code = _tell(f"{error.format_message()} ({command} --help)", error.exit_code, debug=debug)
    except Exception as error:
        message = f"{type(error).__name__}: {error} (add --debug for the traceback)"
        code = _tell(message, EXIT_FAILED, debug=debug)
    finally:
        if debug:
            del os.environ[DEBUG]
    return int(code or 0)


def _tell(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())

"""`cyborgs masks …`: where they are, what they look like, what changed, and taking them along."""

from typing import Annotated

import typer

from cli.arguments import RunArgument

masks_app = typer.Typer(help="Masks of a cycle.", no_args_is_help=True)
CycleOption = Annotated[int, typer.Option("--cycle", min=0, help="which cycle")]


@masks_app.command("path")
def masks_path(run: RunArgument, cycle: CycleOption) -> None:
    """Print where the mask store of a cycle is, for `zarr.open`."""
    from schemas.errors import RunError
    from storage import layout
    from storage.artifacts import standing
    from storage.run import open_run

    opened = open_run(run)
    found = standing(opened, "bootstrap-masks", cycle)
    if found.state != "done":
        raise RunError(f"bootstrap-masks cycle {cycle} of {run} is {found.state}: `cyborgs status {run}` shows all")
    typer.echo(f"{opened.store.url}/{found.folder}/{layout.MASKS}")

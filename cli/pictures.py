"""`cyborgs masks …`: where they are, what they look like, what changed, and taking them along."""

from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import RunArgument

masks_app = typer.Typer(help="Masks of a cycle.", no_args_is_help=True)
CycleOption = Annotated[int, typer.Option("--cycle", min=0, help="which cycle")]
ImagesOption = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="NAME", help="photographs by name or row of the index; several may follow"),
]
_LISTED = 10


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


@masks_app.command("show")
def masks_show(
    run: RunArgument,
    cycle: CycleOption,
    images: ImagesOption = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="a .png or .jpg")] = None,
) -> None:
    """Draw photographs beside their masks, and both over each other."""
    from stages.mask_pictures import show_masks
    from storage.run import open_run

    file = out or Path(f"masks-cycle-{cycle}.png")
    count = show_masks(open_run(run), cycle, images=images or [], file=file)
    typer.echo(f"{file}: {count} photographs")


@masks_app.command("compare")
def masks_compare(
    run: RunArgument,
    first: Annotated[int, typer.Argument(metavar="A", min=0, help="a cycle")],
    second: Annotated[int, typer.Argument(metavar="B", min=0, help="another")],
    images: ImagesOption = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="pictures of what changed most")
    ] = None,
) -> None:
    """How far the masks of two cycles agree, and which photographs' changed most."""
    from cli.show import print_table
    from stages.mask_pictures import compare_masks
    from storage.run import open_run

    changes = compare_masks(open_run(run), first, second, images=images or [], file=out)
    values = sorted(change.agreement for change in changes)
    typer.echo(
        f"agreement (adjusted Rand index) of {len(values)} photographs: mean {sum(values) / len(values):.3f}, "
        f"lowest {values[0]:.3f}, highest {values[-1]:.3f}; changed most:"
    )
    rows = [
        (str(each.row), each.name, f"{each.agreement:.3f}", f"{each.regions[0]} to {each.regions[1]}")
        for each in changes[:_LISTED]
    ]
    print_table(("row", "photograph", "agreement", "regions"), rows)
    if out is not None:
        typer.echo(f"{out}: photograph, cycle {first}, cycle {second}")


@masks_app.command("export")
def masks_export(
    run: RunArgument,
    cycle: CycleOption,
    form: Annotated[str, typer.Option("--format", help="png, coco or npy")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER|FILE", help="a folder; coco: a .json")],
) -> None:
    """Write all masks of a cycle as pictures, as a COCO json of regions, or as arrays."""
    from stages.mask_exports import export_masks
    from storage.run import open_run

    count = export_masks(open_run(run), cycle, form, out)
    typer.echo(f"{out}: masks of {count} photographs")

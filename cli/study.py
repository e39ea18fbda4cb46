"""`cyborgs study`: variants of one config, several seeds, one table."""

from typing import Annotated

import typer


def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="a name under configs/studies/ or a YAML file")],
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="DIR", help="photographs, instead of the study's own")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="where all is kept (default: runs/STUDY; smoke: runs/STUDY-smoke)"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print runs, what they share, hours and disk")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="one seed, two epochs a variant: whether it runs to its table, no more")
    ] = False,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="of --dry-run")] = 1,
    seconds_per_image: Annotated[
        float | None,
        typer.Option(
            "--seconds-per-image",
            min=1e-9,
            help="of --dry-run: a training step's, per photograph; left out: measured",
        ),
    ] = None,
) -> None:
    """Train and measure all variants of a study; the same command again goes on where it stopped."""
    from flows.prepare import locate_run
    from flows.study_checks import check_study
    from schemas.study import load_study

    name, asked = load_study(study, smoke=smoke)
    photographs = tuple(data or ()) or asked.data
    place = locate_run(name) if root is None else root if "/" in root else f"./{root}"
    if dry_run:
        check_study(asked, place, data=photographs)
        from cli.study_costs import print_study_costs

        print_study_costs(asked, photographs, root=place, gpus=gpus, seconds_per_image=seconds_per_image)
        return
    from cli.run import study_pipeline

    raise typer.Exit(study_pipeline(study, place, list(photographs), smoke=smoke))

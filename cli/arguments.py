"""Arguments that several commands share."""

from typing import Annotated

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="path or URL of the run")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="change a setting; may be given several times")
]
EncoderOption = Annotated[str, typer.Option("--encoder", help="of a run: online or target")]

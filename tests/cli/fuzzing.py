"""What every generated input has to end in: the command does its work, or one clear line for each mistake."""

import contextlib
import io
import os

from hypothesis import HealthCheck, settings

from cli.main import main
from schemas.errors import EXIT_BAD_INPUT

_MANY = int(os.environ.get("CYBORGS_FUZZ", "1"))
"""How many times the default number of examples: 7 makes them the full 2,000 and 500."""


def bounded(examples: int) -> settings:
    """Settings for so many examples, times what CYBORGS_FUZZ says; the same ones every time."""
    return settings(
        max_examples=examples * _MANY,
        deadline=20_000,  # a hang is found; a busy machine is none
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


def judge(arguments: list[str], *, opening: str | tuple[str, ...]) -> int:
    """Run the command in this process; returns its exit code.

    Args:
        opening: of a line that says what is wrong.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    said = err.getvalue()
    assert code in (0, EXIT_BAD_INPUT), said
    assert "Traceback" not in said, said
    if code:
        lines = said.split("\n")[:-1]
        assert lines, "nothing was said"
        wrong = [line for line in lines if not line.startswith(opening)]
        assert not wrong, said
    return code

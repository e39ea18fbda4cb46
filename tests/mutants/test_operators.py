"""What counts as a mutation, on programs of a few lines."""

from pathlib import Path

import pytest

from tests.mutants.operators import mutations, unchanged


def _made(folder: Path, line: str) -> list[str]:
    (folder / "program.py").write_text(f"{line}\n")
    return [mutation.after for mutation in mutations("program.py", folder)]


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a + 3", ["x = a + 4", "x = a + 2", "x = a - 3"]),
        ("x = not a", ["x = a"]),
        ("x = a and True", ["x = a and False", "x = a or True"]),
        ("x = a if b else c", ["x = c if b else a"]),
        ("if a:\n    pass", ["if not a:"]),
        ("x = max(a, b)", ["x = min(a, b)"]),
        ("x = a.sum()", ["x = a.mean()"]),
        ("x = a.detach()", ["x = a"]),
        ("a.train()", ["pass"]),
        ("a.spherical = b", ["pass"]),
        ("def f(a: int=2) -> int:\n    return a", ["def f(a: int=3) -> int:", "def f(a: int=1) -> int:"]),
        ('"""A docstring, 3."""', []),
        ('raise ValueError(f"{a + 1}")', []),
        ("assert a == 1", []),
        ("x: tuple[int, 3]", []),
    ],
)
def test_mutations_of_a_line(tmp_path: Path, line: str, made: list[str]) -> None:
    assert _made(tmp_path, line) == made


def test_a_mutation_runs_as_it_reads(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("x = 2\ny = x * 5\n")
    found = {}
    for mutation in [unchanged("program.py", tmp_path), *mutations("program.py", tmp_path)]:
        scope: dict[str, float] = {}
        exec(mutation.code, scope)
        found[mutation.after] = (mutation.line, scope["y"])
    expected = {"": (0, 10), "x = 3": (1, 15), "x = 1": (1, 5), "y = x * 6": (2, 12), "y = x * 4": (2, 8)}
    assert found == expected | {"y = x / 5": (2, 0.4)}

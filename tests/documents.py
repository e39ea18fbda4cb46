"""Documents as tests read them, and their commands as somebody would type them."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"(?:^[ ]*<!--(?P<note>[^\n]*)-->\n\n?)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: Path
    language: str
    """Empty where none is named."""
    code: str
    note: str
    """The comment right before it, such as `not run: needs a cluster`."""

    @property
    def name(self) -> str:
        """For messages and parameters."""
        return f"{name_of(self.document)}: {self.code.split(chr(10), 1)[0]}"

    def commands(self) -> Iterator[list[str]]:
        """Command lines without their comments."""
        for line in self.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def name_of(document: Path) -> str:
    """Such as `docs/resume.md`."""
    return document.relative_to(ROOT).as_posix()


def read_blocks(document: Path, language: str | None = None) -> list[Block]:
    """Fenced blocks in order, all of them or those of a language."""
    found = [
        Block(document, each["language"], textwrap.dedent(each["code"]), (each["note"] or "").strip())
        for each in _FENCE.finditer(document.read_text(encoding="utf-8"))
    ]
    return [block for block in found if language in (None, block.language)]


def read_commands(document: Path) -> list[list[str]]:
    """Command lines of all `sh` blocks, in order."""
    return [words for block in read_blocks(document, "sh") for words in block.commands()]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def code_spans(document: Path) -> list[str]:
    """What stands between backticks in the text."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def shell_environment() -> dict[str, str]:
    """In which the commands of this interpreter's environment are found first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run_command(words: list[str], folder: Path, environment: dict[str, str], *, timeout: float = 900) -> str:
    """Run a command line that has to succeed; what it printed."""
    ended = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr
    return ended.stdout


def run_python(program: str, folder: Path, *, timeout: float = 120) -> None:
    """Run a program that has to succeed, where no window can open."""
    environment = {**os.environ, "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True, timeout=timeout)


def shown_tables(document: Path) -> list[list[list[str]]]:
    """Rows of cells of each table, without its header."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in prose(document).splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [rows[2:] for rows in tables]

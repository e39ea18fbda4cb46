"""The how-to pages on a run of our own, block after block, as somebody would type them: resume, again, masks."""

import re
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cyborgs.evaluation.agreement import mask_agreement
from cyborgs.evaluation.mask_quality import at_size
from storage import layout
from storage.artifacts import Standings, standing
from storage.masks import MaskRow, read_rows
from storage.run import open_run
from tests.chaos.processes import await_, processes, send
from tests.chaos.subject import MARK
from tests.conftest import TINY, draw_scenes
from tests.documents import ROOT, read_blocks, run_command, run_python, shell_environment

DOCS = ROOT / "docs"
PROOF = """
from cyborgs.evaluation import mask_quality

sizes = masks["image_size"][:].tolist()
assert [list(photograph_of(row).size[::-1]) for row in range(len(sizes))] == sizes
for row, size in enumerate(sizes):
    assert (at_size(labels_of(row), *size) == mask_quality.at_size(labels_of(row), *size)).all()
    assert len(np.unique(labels_of(row))) == len(counts[row])
"""
"""Behind the cells of docs/masks.md: that they find each row's photograph, and grow labels as training reads them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader sits: photographs, and a config that takes a minute."""
    place = tmp_path_factory.mktemp("reader")
    draw_scenes(place / "photographs", 18)
    (place / "tiny.yaml").write_text(TINY)
    return place


@pytest.fixture(scope="module")
def mine(folder: Path) -> Path:
    """The same place, with the run of docs/resume.md, as its test left it or from start to end."""
    if not (folder / "runs/mine").exists():
        type_in("cyborgs run tiny.yaml --data photographs --run runs/mine", folder)
    return folder


def shell_blocks(page: str) -> list[str]:
    """Those that are to be run, with our config in place of `small`."""
    blocks = [block for block in read_blocks(DOCS / page, "sh") if not block.note]
    return [block.code.replace("cyborgs run small", "cyborgs run tiny.yaml") for block in blocks]


def type_in(script: str, folder: Path) -> str:
    """All lines, each of which has to succeed."""
    return run_command(["bash", "-euc", script], folder, shell_environment())


class Terminal:
    """A script that is disturbed while it is at work."""

    def __init__(self, script: str, folder: Path) -> None:
        self._mark = uuid.uuid4().hex
        self.child = subprocess.Popen(
            ["bash", "-uc", script],
            cwd=folder,
            env={**shell_environment(), MARK: self._mark},
            stdout=subprocess.PIPE,
            text=True,
            # A terminal's programs hear Ctrl-C; what a script has put in the background does not, nor do its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def send(self, number: signal.Signals, *, when: Callable[[], object]) -> None:
        """Signal `cyborgs run` itself, as a job manager would."""
        await_(when, seconds=300, what=f"the moment of {number.name}")
        commands = [each.pid for each in processes(self._mark) if any(p.endswith("/cyborgs") for p in each.command)]
        assert send(number, commands) == 1

    def finish(self) -> tuple[int, str]:
        """Exit code, and what it printed."""
        printed, _ = self.child.communicate(timeout=900)
        return self.child.returncode, printed


def there(folder: Path, pattern: str) -> Callable[[], object]:
    """Whether a file of the run is there."""
    return lambda: list(folder.glob(f"runs/mine/{pattern}"))


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.timeout(2400)
def test_resume(folder: Path) -> None:
    start, loop, elsewhere = shell_blocks("resume.md")
    first, *rest = start.splitlines()
    disturbed = Terminal(first, folder)
    disturbed.send(signal.SIGINT, when=there(folder, "logs/warm-up/*.jsonl"))
    assert disturbed.finish()[0] == 130

    status, again = rest
    assert re.search(r"warm-up +(partial|pending)", type_in(status, folder))
    disturbed = Terminal(again, folder)
    disturbed.send(signal.SIGTERM, when=there(folder, "cycle-000/train/*/manifest.json"))
    assert disturbed.finish()[0] == 75

    disturbed = Terminal(loop, folder)
    disturbed.send(signal.SIGKILL, when=there(folder, "cycle-001/masks/*/manifest.json"))
    code, printed = disturbed.finish()
    assert code == 0 and printed.count("going on") == 1
    assert all(found.state == "done" for found in Standings(open_run(str(folder / "runs/mine"))).all())

    assert type_in(elsewhere, folder).count("nothing to do") == elsewhere.count("cyborgs run")


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.timeout(2400)
def test_one_stage_again(mine: Path) -> None:
    run = open_run(str(mine / "runs/mine"))
    before = Standings(run).all()
    again, fork, debugger = shell_blocks("one-stage-again.md")
    printed = type_in(again, mine)
    assert "8 of 8 stages done" in printed and "nothing to do" in printed
    anew = []
    for old, new in zip(before, Standings(run).all(), strict=True):
        assert old.manifest is not None and new.manifest is not None
        assert old.manifest.content == new.manifest.content
        if old.manifest.provenance.created != new.manifest.provenance.created:
            anew.append(new.step.name)
    assert anew == ["bootstrap-masks cycle 1", "evaluate cycle 1"]

    verdicts = type_in(fork, mine)
    assert re.search(r"warm-up +stays", verdicts)
    assert re.search(r"bootstrap-masks cycle 0 +anew +masks.clusters", verdicts)
    with Image.open(mine / "finer.png") as sheet:
        assert sheet.width > 256
    type_in(debugger, mine)


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.timeout(2400)
def test_masks(mine: Path) -> None:
    show, own = shell_blocks("masks.md")
    assert Path(type_in(show, mine).splitlines()[-1], "labels").is_dir()
    cells = [block.code for block in read_blocks(DOCS / "masks.md", "python")]
    run_python("\n".join([*cells, PROOF]), mine)
    printed = type_in(own, mine)
    assert re.search(r"warm-up +stays", printed)
    ours, theirs = (load_masks(mine / name, cycle) for name, cycle in (("runs/own", 0), ("runs/mine", 1)))
    for own_row, row in zip(ours, theirs, strict=True):
        again = at_size(own_row.labels, *row.image_size)
        assert mask_agreement(again, at_size(row.labels, *row.image_size)) > 0.9


@pytest.mark.slow
def test_files(mine: Path) -> None:
    """Every file of the run is one that docs/files.md names."""
    listed, *_ = (block.code for block in read_blocks(DOCS / "files.md", ""))
    patterns = [as_pattern(line.split()[0].removeprefix("RUN/")) for line in listed.splitlines()]
    root = mine / "runs/mine"
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert len(files) > 40
    for file in files:
        assert file.endswith("/manifest.json") or any(re.fullmatch(each, file) for each in patterns), file


def as_pattern(place: str) -> str:
    """Of a line such as `cycle-000/masks/<key>/…`."""
    place = re.sub(r"(?<=-)0[0-9]+", "<number>", place.replace(".", "[.]"))
    meant = {"<key>": "[0-9a-f]{20}", "<stage>": "[a-z0-9-]+", "<number>": "[0-9]+", "…": ".+"}
    return re.sub("|".join(meant), lambda found: meant[found[0]], place)


def load_masks(url: Path, cycle: int) -> list[MaskRow]:
    """The masks of a cycle."""
    run = open_run(str(url))
    return [row for _, row in read_rows(url / str(standing(run, "bootstrap-masks", cycle).folder) / layout.MASKS)]

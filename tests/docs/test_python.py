"""Python in documents: each block is run by a test, or says why not; all of it is Python."""

import pytest

from tests.documents import DOCUMENTS, ROOT, Block, name_of, read_blocks

RUN_BY = {
    "README.md": "tests/end_to_end/test_readme.py",
    "docs/masks.md": "tests/docs/test_how_to.py",
    "docs/transfer.md": "tests/end_to_end/test_transfer_tutorial.py",
    "docs/containers.md": "tests/containers/test_containers.py",  # needs a Prefect server in a container
}
"""Document -> the test that runs all its Python."""
BLOCKS = [block for document in DOCUMENTS for block in read_blocks(document, "python")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_it_is_run_or_says_why_not(block: Block) -> None:
    name = name_of(block.document)
    if block.note:
        assert block.note.startswith("not run: ")
        return
    compile(block.code, name, "exec")
    runner = (ROOT / RUN_BY[name]).read_text()
    assert name.removeprefix("docs/") in runner and '"python"' in runner


def test_nothing_else_stands_before_a_block() -> None:
    notes = [block.note for document in DOCUMENTS for block in read_blocks(document) if block.note]
    assert len(notes) >= 2
    assert all(note.startswith("not run: ") for note in notes)

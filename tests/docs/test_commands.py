"""What documents say to type, looked at without running it: commands, options, settings, files and links exist."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.main import app, expand_options
from schemas.config import RunConfig
from schemas.loading import field_names, parse_config, parse_settings
from schemas.protocols import SETTINGS
from schemas.study import Study
from tests.documents import DOCUMENTS, ROOT, Block, code_spans, name_of, prose, read_blocks

RUN_SETTINGS = set(field_names(RunConfig))
GROUPS = {name.partition(".")[0] for name in RUN_SETTINGS if "." in name}
TYPED = re.compile(r"(cyborgs|torchrun) [a-z-]+[ \n]")
FOLDERS = "schemas|storage|cyborgs|stages|flows|cli|benchmarks|tests|configs|docs"
NO_SETTING = {"zarr", "png", "json", "npy", "py", "yaml"}
"""Endings of files that are called like a group of settings."""
MADE = {"benchmarks/latest.json"}
"""Files that a command makes."""


def typed_lines(block: Block) -> Iterator[list[str]]:
    """Of a block the lines that call the command, from its name on."""
    if block.language == "sh" or (block.language == "" and TYPED.match(block.code)):
        for words in block.commands():
            if "cyborgs" in words:
                call = [re.sub(r"\$\w+|…", "1", word).rstrip(";") for word in words[words.index("cyborgs") :]]
                yield [word for word in call if word != "--debug"]


def find(words: list[str]) -> tuple[TyperCommand, list[str]]:
    """The command of a line, and its arguments."""
    found: object = get_command(app)
    rest = words[1:]
    while isinstance(found, TyperGroup):
        assert rest and rest[0] in found.commands, f"{' '.join(words)}: there is no such command"
        found = found.commands[rest.pop(0)]
    assert isinstance(found, TyperCommand)
    return found, rest


def settings_of(words: list[str]) -> set[str]:
    """What the words behind --set may name."""
    return set(SETTINGS[words[2]].model_fields) if words[1] == "evaluate" else RUN_SETTINGS  # type: ignore[index]


CALLS = [
    (name_of(document), words)
    for document in DOCUMENTS
    for block in read_blocks(document)
    for words in typed_lines(block)
]


@pytest.mark.parametrize(("document", "words"), CALLS, ids=[f"{name}: {' '.join(words)}" for name, words in CALLS])
def test_a_command_line_is_one_that_the_command_takes(document: str, words: list[str]) -> None:
    command, rest = find(words)
    arguments = expand_options(rest)
    command.make_context(words[1], list(arguments))  # raises for what is unknown, missing or out of range
    for option, value in itertools.pairwise(arguments):
        if option == "--set" and value != "1":
            assert value.partition("=")[0] in settings_of(words), value


def test_there_are_many_and_of_each_command_one() -> None:
    assert len(CALLS) > 60
    assert {words[1] for _, words in CALLS} >= set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_in_the_text_exist(document: Path) -> None:
    for span in code_spans(document):
        if not re.match(r"cyborgs [a-z]+", span):
            continue
        command, rest = find(["cyborgs", *re.sub(r"[',]", "", span.removeprefix("cyborgs ")).split()])
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
        given = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert given <= options, span


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_settings_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assigned = re.findall(r"--set ['\"]?([a-z_]+\.[a-z_.]+)=", text) + re.findall(r"[\[,]\"([a-z_]+\.[a-z_]+)=", text)
    assert set(assigned) <= RUN_SETTINGS
    for span in code_spans(document):
        found = re.match(r"([a-z]+)\.([a-z_]+)(\*?)(=|$)", span)
        if found is None or found[1] not in GROUPS or found[2] in NO_SETTING:
            continue
        name = f"{found[1]}.{found[2]}"
        assert any(each.startswith(name) for each in RUN_SETTINGS) if found[3] else name in RUN_SETTINGS, span


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_of_the_repository_that_are_named_exist(document: Path) -> None:
    for span in code_spans(document):
        if re.fullmatch(rf"({FOLDERS})/[a-z_0-9/-]+(\.[a-z]+|/)", span) and span not in MADE:
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_where_documents_are_read_in_the_repository(document: Path) -> None:
    """The site's own are checked when it is built."""
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", prose(document)):
        assert (document.parent / target).is_file(), target


def test_configs_in_documents_are_configs() -> None:
    (within,) = read_blocks(ROOT / "docs" / "evaluation.md", "yaml")
    config = parse_config(yaml.safe_load(within.code), where="docs/evaluation.md")
    assert [each.protocol for each in config.evaluate.protocols] == ["mask-quality", "voc07-svm", "knn"]
    (block,) = read_blocks(ROOT / "docs" / "studies.md", "yaml")
    study = parse_settings(Study, yaml.safe_load(block.code), where="docs/studies.md", hint="itself")
    for variant in study.variants:
        assert study.config(variant, 1).seed == 1

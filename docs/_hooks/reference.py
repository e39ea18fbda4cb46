"""What the pages below docs/reference/ take from the code: settings from the schema, commands from their help."""

import contextlib
import inspect
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import typer
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from cli.main import app
from schemas.config import RunConfig
from schemas.loading import read_tree
from schemas.planned_protocols import FROZEN_NAMES, PROTOCOL_NAMES, PlannedProtocol, ProtocolName
from schemas.protocols import PROTOCOL_FOLDER, SETTINGS
from schemas.settings import Settings
from schemas.study import Study, Variant
from stages.__main__ import main as stages_main

_MARK = re.compile(r"<!-- from the code: (\w+) -->")
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_PLAIN = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_HUGE = 2**32


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Each mark is replaced by what it names."""
    parts = {
        "settings": settings,
        "protocols": protocols,
        "studies": studies,
        "commands": commands,
        "stages": stages,
    }
    return _MARK.sub(lambda mark: "\n".join(parts[mark[1]]()), markdown)


def settings() -> Iterator[str]:
    """Every setting of a run, a section for each group."""
    defaults = RunConfig()
    yield from _table(RunConfig, {"seed": defaults.seed}, names=["seed"])
    for name, group in defaults:
        if isinstance(group, Settings):
            yield f"\n## {name}\n\n{_text(type(group))}\n"
            yield from _table(type(group), group.model_dump(mode="json"), prefix=f"{name}.")
    yield f"\n### Items of evaluate.protocols\n\n{_text(PlannedProtocol)}\n"
    yield from _table(PlannedProtocol, _defaults(PlannedProtocol))


def protocols() -> Iterator[str]:
    """Settings of each protocol, and before it what it shares with others."""
    shown: set[type[BaseModel]] = set()
    for name in PROTOCOL_NAMES:
        lineage = [each for each in reversed(SETTINGS[name].__mro__) if issubclass(each, Settings)][1:]
        for base in lineage[:-1]:
            if base not in shown:
                shown.add(base)
                yield f"\n### {base.__name__}\n\n{_text(base)}\n"
                yield from _table(base, _defaults(base), names=_own(base))
        yield from _protocol(name, SETTINGS[name], lineage[:-1])


def _protocol(name: ProtocolName, model: type[BaseModel], bases: Sequence[type[BaseModel]]) -> Iterator[str]:
    kind = "Frozen" if name in FROZEN_NAMES else "Fine-tuned"
    links = ", ".join(f"[{base.__name__}](#{base.__name__.lower()})" for base in bases)
    yield f"\n### {name}\n\n{_text(model)} {kind}; takes those of {links} too.\n"
    values = read_tree(PROTOCOL_FOLDER / f"{name}.yaml")
    values.pop("smoke", None)
    inherited = {key: value for key, value in values.items() if key not in _own(model)}
    if inherited:
        listed = ", ".join(f"`{key}: {_written(value)}`" for key, value in inherited.items())
        yield f"Of these its file sets {listed}.\n"
    yield from _table(model, _defaults(model) | values, names=_own(model))


def studies() -> Iterator[str]:
    """What a study's file holds."""
    yield from _table(Study, _defaults(Study))
    yield f"\n### A variant\n\n{_text(Variant)}\n"
    yield from _table(Variant, _defaults(Variant))


def _own(model: type[BaseModel]) -> list[str]:
    """Settings that a class has itself, not from its bases."""
    return [name for name in model.model_fields if name in inspect.get_annotations(model)]


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Of the settings that have one."""
    properties = model.model_json_schema(mode="serialization")["properties"]
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema}


def _table(
    model: type[BaseModel], defaults: Mapping[str, Any], *, prefix: str = "", names: Sequence[str] | None = None
) -> Iterator[str]:
    schema = model.model_json_schema()
    yield "| setting | values | default | meaning |\n| --- | --- | --- | --- |"
    for name in model.model_fields if names is None else names:
        values = _values(schema["properties"][name], schema.get("$defs", {}))
        default = f"`{_written(defaults[name])}`" if name in defaults else "has to be given"
        anchor = f'<span id="{prefix}{name}"></span>' if prefix else ""
        yield f"| {anchor}`{prefix}{name}` | {values} | {default} | {_meaning(model, name)} |"


def _values(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a setting may be, in words."""
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{_written(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(_values(each, definitions) for each in schema["anyOf"])
    if schema["type"] == "object":
        return "settings, as below"
    if schema["type"] != "array":
        bounds = [f"{sign}&nbsp;{_number(schema[bound])}" for bound, sign in _BOUNDS.items() if bound in schema]
        return _escaped(f"{_PLAIN[schema['type']]} {', '.join(bounds)}".strip())
    if "prefixItems" in schema:
        return "; ".join(_values(each, definitions) for each in schema["prefixItems"])
    least = ", one at least" if schema.get("minItems") else ""
    return f"list of: {_values(schema['items'], definitions)}{least}"


def _number(value: float) -> str:
    return f"2^{value.bit_length() - 1}" if isinstance(value, int) and value > _HUGE else f"{value:g}"


def commands() -> Iterator[str]:
    """Every command, a section each."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    yield from _commands(root, typer.Context(root, info_name="cyborgs"))


def _commands(group: TyperGroup, context: typer.Context) -> Iterator[str]:
    for name, command in group.commands.items():
        own = typer.Context(command, info_name=name, parent=context)
        if isinstance(command, TyperGroup):
            yield from _commands(command, own)
            continue
        usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
        yield f"\n## {own.command_path}\n\n{_escaped(command.help or '')}\n\n```\n{usage}\n```\n"
        yield "| takes | |\n| --- | --- |"
        for record in (parameter.get_help_record(own) for parameter in command.params):
            if record is not None:
                yield f"| `{record[0]}` | {_escaped(record[1])} |"


def stages() -> Iterator[str]:
    """What `python -m stages --help` prints."""
    told = io.StringIO()
    wide = mock.patch.dict("os.environ", {"COLUMNS": "110"})
    with wide, contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        stages_main(["--help"])
    yield f"```\n{told.getvalue()}```"


def _text(model: type[BaseModel]) -> str:
    return _escaped(inspect.getdoc(model) or "")


def _meaning(model: type[BaseModel], name: str) -> str:
    return _escaped(model.model_fields[name].description or "")


def _written(value: object) -> str:
    """A value as a config has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(each) for each in value)}]"
    return json.dumps(value)


def _escaped(text: str) -> str:
    """Plain text in Markdown; what stands between backticks is code and stays."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[\\*_|<>\[\]{}]", _entity, part) for part in parts)


def _entity(character: re.Match[str]) -> str:
    return f"&#{ord(character[0])};"

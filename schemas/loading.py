"""From a YAML file (or a name under configs/) and `--set a.b=c` to a RunConfig, with one clear line per mistake."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.plain_yaml import NOT_YAML, load_yaml

AnySettings = TypeVar("AnySettings", bound=BaseModel)
CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "configs"


def config_names() -> list[str]:
    """Names of the configs that come with the project."""
    return sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))


def find_config(name: str) -> Path:
    """The file that a name under configs/ or a path stands for."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError(f"config {name}: no such file")
    shipped = CONFIG_FOLDER / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if (Path(name) / "run.json").is_file():
        raise ConfigError(f"config {name!r} is a run: `cyborgs run --run {name}` goes on with it")
    raise ConfigError(f"config {name!r}: {no_such_name(name, config_names())}")


def no_such_name(name: str, known: Iterable[str]) -> str:
    """What to say of a name under configs/ that is none: which there are, the one that was meant if it is plain."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"not a .yaml file and not one of {', '.join(names)}{meant}"


def load_config(name: str, assignments: Iterable[str] = ()) -> RunConfig:
    """Read a config and lay `a.b=c` assignments over it.

    Raises:
        ConfigError: the file does not exist or is not YAML, a key is unknown, a value is out of range or at
            odds with another; one line per mistake.
    """
    tree = read_tree(find_config(name))
    lay_over(tree, assignments)
    return parse_config(tree, where=f"config {name}")


def change_config(config: RunConfig, assignments: Iterable[str]) -> RunConfig:
    """Lay `a.b=c` assignments over a config.

    Raises:
        ConfigError: as `load_config`.
    """
    tree = config.model_dump(mode="json")
    lay_over(tree, assignments)
    return parse_config(tree, where="the run's config")


def _shown(text: str, most: int = 80) -> str:
    """On one line, whatever was written, and not much of it."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]}…"


def parse_config(tree: Mapping[str, Any], *, where: str) -> RunConfig:
    """Validate a tree of settings; `where` opens each message."""
    return parse_settings(RunConfig, tree, where=where, hint="`cyborgs plan CONFIG --settings`")


def parse_settings(model: type[AnySettings], tree: Mapping[str, Any], *, where: str, hint: str) -> AnySettings:
    """Validate a tree of settings of any kind.

    Args:
        where: opens each message.
        hint: what lists the settings that there are.

    Raises:
        ConfigError: one line per mistake.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = dict.fromkeys(f"{where}: {_explain(detail, model, hint)}" for detail in error.errors())
        raise ConfigError("\n".join(lines)) from error


def read_tree(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not yet validated.

    Raises:
        ConfigError: it is not YAML, or not a group of settings.
    """
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except NOT_YAML as error:
        raise ConfigError(f"config {path}: not readable as YAML: {_shown(str(error), 300)}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config {path}: expected settings such as `seed: 0`, found {type(tree).__name__}")
    return tree


def lay_over(tree: dict[str, Any], assignments: Iterable[str]) -> None:
    """Put the values of `a.b=c` assignments into a tree of settings.

    Raises:
        ConfigError: one is not written that way.
    """
    for assignment in assignments:
        _assign(tree, assignment)


def _assign(tree: dict[str, Any], assignment: str) -> None:
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {_shown(assignment)}: write it as name=value, such as train.temperature=0.2")
    try:
        value = load_yaml(text)
    except NOT_YAML as error:
        raise ConfigError(f"--set {_shown(assignment)}: the value is not readable as YAML") from error
    *parents, leaf = name.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {_shown(assignment)}: {_shown(parent)} is a value, not a group of settings")
        node = child
    node[leaf] = value


def _explain(detail: Any, model: type[BaseModel], hint: str) -> str:
    # A position within a list is no setting: the value at fault is shown anyway.
    location = [str(part) for part in detail["loc"] if isinstance(part, str)]
    name = _shown(".".join(location))
    if detail["type"] == "extra_forbidden":
        return f"unknown setting {name}{_suggestion(location, model, hint)}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    if detail["type"] == "value_error":
        # A rule between fields of one group opens with the field's name.
        return f"{name}.{message}" if name in model.model_fields else f"{name}: {message}"
    return f"{name} = {_shown(_written(detail['input']))}: {message[0].lower()}{message[1:]}"


def _written(value: object) -> str:
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _suggestion(location: list[str], model: type[BaseModel], hint: str) -> str:
    known = field_names(model)
    wanted = ".".join(location)
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.7)
    if not close:
        close = [name for name in known if name.rsplit(".", 1)[-1] == location[-1]][:1]
    return f": did you mean {close[0]}?" if close else f"; {hint} lists them"


def field_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all settings below a model."""
    names = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            names.extend(field_names(nested, f"{prefix}{name}."))
        else:
            names.append(f"{prefix}{name}")
    return names


def flatten(config: BaseModel) -> dict[str, Any]:
    """Dotted name -> JSON value for every setting."""
    return dict(_flatten(config.model_dump(mode="json"), ""))


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

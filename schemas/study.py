"""A study: variants of one config, each with several seeds, measured alike; one table at the end."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.loading import CONFIG_FOLDER, find_config, lay_over, no_such_name, parse_config, parse_settings, read_tree
from schemas.plan import bootstrap_epochs
from schemas.planned_protocols import PlannedProtocol
from schemas.protocols import smoke_settings
from schemas.settings import Settings

STUDY_FOLDER = CONFIG_FOLDER / "studies"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


_TAKEN = {"seed": "seeds", "evaluate.protocols": "measure"}
"""Settings of a run that a study has a part of its own for."""


def _as_variant(value: Any) -> Any:
    """A list of settings stands for a variant that changes them."""
    if isinstance(value, list):
        return {"set": value}
    if isinstance(value, Variant) or (isinstance(value, dict) and value.keys() <= Variant.model_fields.keys()):
        return value
    raise ValueError("write a list of settings, such as [masks.source=grid], [] for none, or {weights: FILE}")


class Variant(Settings):
    """One row of the table."""

    set: tuple[str, ...] = ()
    """Settings to lay over the study's, such as "masks.source=grid"."""
    weights: str | None = None
    """Weights that are measured as they are, "random" or a file, instead of a run."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weights is not None and self.set:
            raise ValueError("weights that are not trained have no settings: leave out `set`")
        return self


class Study(Settings):
    """STUDY.yaml."""

    base: str
    """A name under configs/ or a YAML file."""
    set: tuple[str, ...] = ()
    """Settings to lay over it, in every variant."""
    data: tuple[str, ...] = ()
    """Photographs that all runs learn from; --data goes first. $NAME stands for an environment variable."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Each variant is trained and measured with each."""
    variants: dict[str, Annotated[Variant, BeforeValidator(_as_variant)]]
    """Name -> what is different; a list stands for `set`."""
    measure: tuple[PlannedProtocol, ...]
    """Protocols, with their data ($NAME as above), and after which cycles."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for part in ("seeds", "variants", "measure"):
            if not getattr(self, part):
                raise ValueError(f"{part}: name one at least")
        for name in self.variants:
            if not _NAME.fullmatch(name):
                raise ValueError(f"variants: {name!r} names a folder: use letters, digits, '.', '_' and '-'")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: name each once")
        for assignment in (*self.set, *(each for variant in self.variants.values() for each in variant.set)):
            name = assignment.partition("=")[0].strip()
            if name in _TAKEN:
                raise ValueError(f"{assignment}: that is what the study's `{_TAKEN[name]}` says")
        return self

    def config(self, variant: str, seed: int) -> RunConfig:
        """The config of a run.

        Raises:
            ConfigError: a setting is unknown or out of range; the message names the variant.
        """
        planned = json.dumps([each.model_dump(mode="json", exclude_none=True) for each in self.measure])
        tree = read_tree(find_config(self.base))
        own = self.variants[variant].set
        try:
            lay_over(tree, [*self.set, *own, f"seed={seed}", f"evaluate.protocols={planned}"])
        except ConfigError as error:
            raise ConfigError(f"variant {variant}: {str(error).removeprefix('--set ')}") from error
        return parse_config(tree, where=f"variant {variant}")

    def as_smoke_run(self) -> "Study":
        """One seed, two epochs a variant, quick protocols after each cycle: whether it runs to its table, no more."""
        return self.model_copy(
            update={
                "seeds": self.seeds[:1],
                "variants": {name: self._short(name) for name in self.variants},
                "measure": tuple(
                    each.model_copy(
                        update={
                            "cycles": each.cycles if isinstance(each.cycles, str) else None,
                            "set": (*smoke_settings(each.protocol), *each.set),
                        }
                    )
                    for each in self.measure
                ),
            }
        )

    def _short(self, variant: str) -> Variant:
        own = self.variants[variant]
        if own.weights is not None:
            return own
        config = self.config(variant, self.seeds[0])
        schedule = config.schedule
        shorter = (
            "schedule.epochs=2",
            f"schedule.warmup_epochs={min(1, schedule.warmup_epochs)}",
            f"schedule.bootstrap_every_epochs={min(1, schedule.bootstrap_every_epochs)}",
            f"schedule.checkpoint_epochs={[1] if schedule.checkpoint_epochs else []}",
            f"optimization.lr_warmup_epochs={min(1.0, config.optimization.lr_warmup_epochs)}",
        )
        return own.model_copy(update={"set": (*own.set, *shorter)})


def load_study(name: str, *, smoke: bool = False) -> tuple[str, Study]:
    """A study by a name under configs/studies/ or a file, and what it is called; as a smoke run where asked for.

    Raises:
        ConfigError: it does not exist, or one of its settings is wrong; all variants are looked at.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = STUDY_FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = sorted(each.stem for each in STUDY_FOLDER.glob("*.yaml"))
            raise ConfigError(f"study {name!r}: {no_such_name(name, known)}")
    elif not path.is_file():
        raise ConfigError(f"study {name}: no such file")
    study = parse_settings(Study, read_tree(path), where=f"study {name}", hint="docs/studies.md")
    study = study.model_copy(
        update={
            "data": tuple(_expanded(each, name) for each in study.data),
            "measure": tuple(each.model_copy(update={"data": _expanded(each.data, name)}) for each in study.measure),
            "set": tuple(_expanded(each, name) for each in study.set),
            "variants": {key: _variant(each, name) for key, each in study.variants.items()},
        }
    )
    for variant, each in study.variants.items():
        config = study.config(variant, study.seeds[0])
        if each.weights is None:
            _check_due(study.measure, config, where=f"study {name}: variant {variant}")
    return (f"{path.stem}-smoke", study.as_smoke_run()) if smoke else (path.stem, study)


def _check_due(measure: tuple[PlannedProtocol, ...], config: RunConfig, *, where: str) -> None:
    """Each protocol is measured once at least: else all is trained, and the table is empty."""
    last = len(bootstrap_epochs(config)) - 1
    for planned in measure:
        if not any(planned.is_due(cycle, last=last) for cycle in range(last + 1)):
            asked = ", ".join(map(str, planned.cycles or ()))
            raise ConfigError(
                f"{where}: {planned.title} is never measured: cycles [{asked}], and its cycles are 0 to {last}; "
                "`cycles: last` is always there"
            )


def _variant(variant: Variant, name: str) -> Variant:
    weights = None if variant.weights is None else _expanded(variant.weights, name)
    return variant.model_copy(update={"set": tuple(_expanded(each, name) for each in variant.set), "weights": weights})


def _expanded(text: str, name: str) -> str:
    """With environment variables in place of their names."""
    found = os.path.expandvars(text)
    if "$" in found:
        raise ConfigError(f"study {name}: {text}: set that environment variable to where the data is")
    return found

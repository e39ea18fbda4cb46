"""What became of the kills, by stage and target."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cli.show import print_table as print_columns


@dataclass
class Kill:
    """One kill."""

    stage: str
    target: str
    way: str
    how: str
    survived: bool = False
    lost_steps: int | None = None
    """Steps that had been taken and were not saved; None where that was not measured."""
    lost_seconds: float = 0.0
    orphan_seconds: float | None = None
    """How long the last of its processes outlived it."""


def print_table(kills: list[Kill]) -> None:
    """Kills per stage and target, per way of starting, and per manner."""
    for title, name in (
        ("stage and target", lambda kill: f"{_kind(kill.stage)}, {kill.target}"),
        ("started by", lambda kill: kill.way),
        ("disturbed by", lambda kill: kill.how),
    ):
        _print(title, kills, name)
    print(f"{sum(kill.survived for kill in kills)} of {len(kills)} kills survived")


def _kind(stage: str) -> str:
    return stage.partition(" cycle")[0]


def _print(title: str, kills: list[Kill], name: Callable[[Kill], str]) -> None:
    rows = []
    for group in sorted({name(kill) for kill in kills}):
        members = [kill for kill in kills if name(kill) == group]
        measured = [kill for kill in members if kill.lost_steps is not None]
        rows.append(
            (
                group,
                str(len(members)),
                str(sum(kill.survived for kill in members)),
                _most(kill.lost_steps for kill in measured),
                _most(kill.lost_seconds for kill in measured),
                _most(kill.orphan_seconds for kill in members),
            )
        )
    print_columns((title, "kills", "survived", "lost steps", "lost s", "orphans s"), rows)
    print()


def _most(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):.3g}" if known else ""

"""What of a run stays valid under other settings, and why the rest does not."""

from dataclasses import dataclass
from typing import Any

from schemas.plan import Step, config_part
from storage.artifacts import Standing, Standings
from storage.run import Run


@dataclass(frozen=True)
class Verdict:
    """What becomes of one step."""

    name: str
    stays: bool
    why: str


def compare(before: Run, after: Run) -> list[Verdict]:
    """Each step under the new settings: whether its artifact is there, and if not what it differs in.

    Args:
        before: with the earlier settings.
        after: with the new ones; the same run on storage, or a fork that valid artifacts were copied to.
    """
    old = {found.step.name: found for found in Standings(before).all()}
    return [_judge(found, old.get(found.step.name), before, after) for found in Standings(after).all()]


def _judge(found: Standing, old: Standing | None, before: Run, after: Run) -> Verdict:
    name = found.step.name
    if found.state == "done":
        same = old is not None and old.key == found.key
        return Verdict(name, True, "as it is" if same else "made earlier with these very settings")
    if old is None:
        return Verdict(name, False, "new")
    changed = _changed_settings(before, old.step, after, found.step)
    if changed:
        return Verdict(name, False, ", ".join(changed))
    if found.key is None:
        return Verdict(name, False, "follows what is made anew")
    return Verdict(name, False, "not made yet" if old.state != "done" else "reads other content")


def _changed_settings(before: Run, old: Step, after: Run, new: Step) -> list[str]:
    a, b = _flat(config_part(before.config, old)), _flat(config_part(after.config, new))
    return [f"{name} {a.get(name)!r} -> {b.get(name)!r}" for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def _flat(part: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat

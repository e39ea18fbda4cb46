"""What a study leads to, before anything is computed: which steps its runs share."""

from dataclasses import dataclass

from schemas.config import RunConfig
from schemas.digests import digest_json
from schemas.plan import Step, ingredients, plan


@dataclass(frozen=True)
class PlannedStep:
    """A step of one or several runs, computed once."""

    step: Step
    config: RunConfig
    members: tuple[str, ...]
    """Runs that have it, the one that computes it first."""


def planned_steps(configs: dict[str, RunConfig]) -> list[PlannedStep]:
    """Every step that is computed, in order; the same photographs are taken for granted.

    Args:
        configs: name of a run -> its config.
    """
    found: dict[str, tuple[Step, RunConfig, list[str]]] = {}
    for member, config in configs.items():
        # What a step is made of stands for its content, which nobody knows yet.
        content: dict[str, str] = {}
        # Files from outside count by what they say; before they are read, by their place.
        pins = {"start": config.network.start, "masks": digest_json(list(config.masks.source_paths))}
        for step in plan(config):
            inputs = {role: content[name] for role, name in step.inputs}
            mark = digest_json(ingredients(config, step, inputs=inputs, pins=pins))
            content[step.name] = mark
            found.setdefault(mark, (step, config, []))[2].append(member)
    return [PlannedStep(step, config, tuple(members)) for step, config, members in found.values()]

"""Before a study starts, or is only priced: what can be seen to fail, weeks of training later."""

import sys
from pathlib import Path

from flows.prepare import absolute_source
from schemas.config import RunConfig
from schemas.errors import ConfigError, DataError
from schemas.study import Study
from schemas.study_plan import planned_steps
from storage.artifacts import Standings
from storage.photographs import list_candidates, listing_digest
from storage.run import Run, find_run
from storage.sources import expand
from storage.studies import check_root, trained


def check_study(study: Study, root: str, *, data: tuple[str, ...]) -> None:
    """Look at everything that the study names.

    Raises:
        ConfigError: something is not there, or the study's runs have learnt from other photographs.
        DataError: photographs are missing.
    """
    check_root(root)
    for planned in study.measure:
        if not expand(planned.data).exists():
            raise ConfigError(f"measure {planned.title}: {planned.data}: no such folder")
    for name, variant in study.variants.items():
        _check_files(study.config(name, study.seeds[0]), variant.weights, where=f"variant {name}")
    _check_photographs(study, root, data=data)
    _warn_of_what_is_not_shared(study)


def _check_files(config: RunConfig, weights: str | None, *, where: str) -> None:
    if weights is not None:
        named = [("weights", weights)]
    else:
        named = [("network.start", config.network.start)]
        named += [("masks.source_paths", path) for path in config.masks.source_paths]
    for setting, path in named:
        if path != "random" and "://" not in path and not expand(path).exists():
            raise ConfigError(f"{where}: {setting} {path}: no such file or folder")


def _check_photographs(study: Study, root: str, *, data: tuple[str, ...]) -> None:
    """All members learn from the same ones, those that were trained when the study was begun too."""
    members = trained(study)
    if not members:
        return
    given = data or study.config(members[0].variant, members[0].seed).placement.data
    runs = [run for each in members if (run := find_run(each.run(root))) is not None]
    if not given:
        if len(runs) < len(members):
            raise DataError("no photographs given: add --data FOLDER, or `data:` to the study")
        return
    sources = tuple(absolute_source(source) for source in given)
    begun = [run for run in runs if _has_begun(run)]
    if not begun or (len(begun) == len(members) and all(run.record.data == sources for run in begun)):
        return
    digest = listing_digest(list_candidates(sources))
    for run in begun:
        if run.record.pins["photographs"] != digest:
            raise ConfigError(
                f"{' '.join(given)}: not the photographs that {run.store.url} has learnt from, and one table of both "
                f"would compare nothing: give those, or choose another --root than {Path(root)}"
            )


def _warn_of_what_is_not_shared(study: Study) -> None:
    """The first member to train lets go of a checkpoint that the next would have taken over."""
    configs = {each.name: study.config(each.variant, each.seed) for each in trained(study)}
    for step in planned_steps(configs):
        kept = step.config.placement.keep_checkpoints
        if step.step.stage in ("warm-up", "train") and len(step.members) > 1 and kept != "all":
            print(
                f"warning: placement.keep_checkpoints={kept}: {step.step.name} is trained again by each member that "
                "could share it, once the first has let go of it; `all` keeps it",
                file=sys.stderr,
            )
            return


def _has_begun(run: Run) -> bool:
    return any(found.state == "done" for found in Standings(run).all())

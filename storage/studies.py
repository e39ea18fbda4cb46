"""Where a study keeps what, below its root: runs of its members, results of weights that are measured as they are."""

from dataclasses import dataclass
from pathlib import Path

from schemas.digests import digest_json
from schemas.errors import ConfigError
from schemas.planned_protocols import PlannedProtocol
from schemas.study import Study
from storage.photographs import file_digest

RESULTS = "results"
PRECISION = "precision"
"""The number format of all runs that leave it to the machine, as the first one found it."""
SHARING = "leases/shared-stages"
"""Held by the command that makes what several members share."""


@dataclass(frozen=True)
class Member:
    """One run of a study, or one measurement of weights that are there."""

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant}-{self.seed}"

    def run(self, root: str) -> str:
        """Where its run is."""
        return f"{root}/runs/{self.name}"

    @property
    def lease(self) -> str:
        """Held by the command that is at work on it, below the study's root."""
        return f"leases/{self.name}"


def check_root(root: str) -> str:
    """The root, if it is a folder: tables and results of studies are files.

    Raises:
        ConfigError: it is a URL.
    """
    if "://" in root:
        raise ConfigError(f"--root {root}: a study is kept in a folder; its photographs may lie anywhere")
    return root


def members(study: Study) -> list[Member]:
    """All, seed by seed: a study that is stopped early has something to say of each variant."""
    return [Member(variant, seed) for seed in study.seeds for variant in study.variants]


def trained(study: Study) -> list[Member]:
    """Those that are runs."""
    return [each for each in members(study) if study.variants[each.variant].weights is None]


def result_path(study: Study, member: Member, planned: PlannedProtocol) -> str:
    """Where the result is, below the root, of weights that are measured as they are.

    Other weights, settings or data have another: what was measured of them before is not taken for it.
    """
    weights = study.variants[member.variant].weights
    assert weights is not None
    path = Path(weights)
    content = file_digest(path) if path.is_file() else weights
    architecture = study.config(member.variant, member.seed).network.architecture
    mark = digest_json([content, planned.model_dump(mode="json"), architecture])[:8]
    return f"{RESULTS}/{member.name}-{planned.title}-{mark}.json"

"""What stands in a run and no setting of it leads to any more: artifacts of earlier settings, and their logs."""

from collections import defaultdict
from dataclasses import dataclass, field

from storage import layout
from storage.artifacts import Standings, tidy
from storage.run import Run


@dataclass
class Garbage:
    """Something that can go."""

    place: str
    """Folder of an artifact, or of a step's logs."""
    why: str
    paths: list[str] = field(default_factory=list)
    bytes: int = 0


def find_garbage(run: Run) -> list[Garbage]:
    """Artifacts that today's settings do not lead to, partial ones among them, and the logs of their attempts.

    Left alone: what another process is at work on, and the artifacts of a step whose key is not known, since what it
    reads is still to be made: they may turn out to be today's.
    """
    standings = Standings(run).all()
    wanted = {found.folder for found in standings if found.folder is not None}
    unknown = {layout.step_folder(found.step) for found in standings if found.key is None}
    keys: dict[str, set[str | None]] = defaultdict(set)
    for found in standings:
        keys[layout.log_folder(found.step)].add(found.key)
    garbage: dict[str, Garbage] = {}
    for path in run.store.list(""):
        artifact, log = layout.artifact_of(path), layout.log_of(path)
        if artifact is not None and artifact not in wanted and artifact.rsplit("/", 1)[0] not in unknown:
            entry = garbage.setdefault(artifact, Garbage(artifact, "no setting leads here any more"))
        elif log is not None and not keys[log[0]] & {log[1], None}:
            entry = garbage.setdefault(log[0], Garbage(log[0], "logs of such artifacts"))
        else:
            continue
        entry.paths.append(path)
        entry.bytes += run.store.size(path) or 0
    return [entry for entry in garbage.values() if run.store.holder(f"{entry.place}/{layout.LEASE}") is None]


def remove(run: Run, garbage: list[Garbage]) -> None:
    """Delete it, each artifact's manifest first, so that nobody takes what is left for whole."""
    for entry in garbage:
        for path in sorted(entry.paths, key=lambda path: not path.endswith(f"/{layout.MANIFEST}")):
            run.store.delete(path)
        run.store.unpoint(f"{entry.place.split('/')[0]}/{layout.MASKS}")
        held = sorted({path.rpartition("/")[0] for path in entry.paths}, reverse=True)
        for folder in (*held, entry.place, entry.place.rpartition("/")[0], entry.place.split("/")[0]):
            if not run.store.list(folder):
                run.store.delete(folder)
    tidy(run)

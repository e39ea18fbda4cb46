"""A measurement that takes hours: stopped on request, saved now and then, shared by several processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from schemas.digests import seal, unseal
from stages.interruption import StopRequest
from stages.team import ALONE, Team
from storage.local import LocalStore

Tell = Callable[[str], None]


@dataclass
class Attempt:
    """What the measurement needs of whoever started it."""

    tell: Tell = lambda _: None
    """A line for the person."""
    stop: StopRequest = field(default_factory=StopRequest)
    team: Team = ALONE
    kept: Callable[[], bytes | None] = lambda: None
    """What an earlier attempt saved."""
    keep: Callable[[bytes], None] | None = None
    """Save something for the next attempt; None where nothing can be kept."""
    network_file: Path | None = None
    """Where the fine-tuned network is written."""
    moving: Callable[..., None] | None = None
    """Told of every step: unit, done, total and figures, as `Progress` has them; None where nobody looks."""


def beside(out: Path) -> tuple[Callable[[], bytes | None], Callable[[bytes], None], Callable[[], None]]:
    """Read, save and remove what is kept of a measurement whose result will be `out`."""
    path = partial_file(out)
    store = LocalStore(path.absolute().parent)

    def read() -> bytes | None:
        return unseal(path.read_bytes()) if path.is_file() else None

    def save(data: bytes) -> None:
        store.write(path.name, seal(data))

    return read, save, lambda: path.unlink(missing_ok=True)


def partial_file(out: Path) -> Path:
    """`metrics.json` -> `metrics.json.partial`."""
    return out.with_name(f"{out.name}.partial")

"""`make test-chaos`: runs that are killed again and again, at random times, by SIGKILL and by SIGSTOP past the lease.

Each attempt is a plain start of the same run, and the last one a `cyborgs run` that nobody disturbs. The end has to be
that of an undisturbed run: every tensor, every label, the metrics log; no file and no process left over; no more work
done again than one save interval.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.artifacts import Standing, Standings, retract
from storage.run import Run, open_run
from tests.chaos.evidence import (
    finished_shards,
    leftovers,
    logged_steps,
    open_subject,
    progress,
    under_way,
)
from tests.chaos.processes import await_, processes, send
from tests.chaos.subject import WAYS, Subject, make_subject
from tests.chaos.table import Kill, print_table
from tests.pipeline import assert_same_results

TARGETS = ("child", "parent", "group")
_ATTEMPT_SECONDS = 400.0
_ORPHAN_SECONDS = 60.0
_PAST_THE_LEASE_SECONDS = 6.0
"""Longer than a heartbeat stands still in a living stage."""


@dataclass
class Attempt:
    """A start of the run that is under way."""

    subject: Subject
    name: str
    way: str

    def __post_init__(self) -> None:
        self.process = self.subject.start(self.way, self.name)
        self.mark = f"{self.subject.identity}-{self.name}"

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def pids(self, target: str, chance: random.Random) -> tuple[str, list[int]]:
        """Whom a target means here: inline there is no child."""
        found = processes(self.mark)
        children = [p.pid for p in found if p.is_stage and p.pid != self.process.pid]
        if target == "group":
            return target, [p.pid for p in found]
        if target == "child" and children:
            return target, [chance.choice(children)]
        return "parent", [self.process.pid]

    def gone(self) -> bool:
        """Whether no process of it is left, whoever its parent was."""
        self.process.poll()
        return not processes(self.mark)


class Disturbed:
    """One run, disturbed until it has been killed so many times or is done."""

    def __init__(
        self, subject: Subject, reference: Path, kills: int, chance: random.Random, *, ahead: float = 0.0
    ) -> None:
        """
        Args:
            ahead: shifts what is aimed at by this part of the way from one kill to the next, so that several runs of
                few kills aim at all stages.
        """
        self.subject, self.reference, self.wanted, self.chance = subject, reference, kills, chance
        self._ahead = ahead
        self.kills: list[Kill] = []
        self.attempts = 0
        self._stages = [found.step.name for found in _standings(reference)]
        self._seconds = {
            f.step.name: f.manifest.provenance.seconds for f in _standings(reference) if f.manifest is not None
        }
        self._shards: dict[Path, int] = {}

    def run(self) -> None:
        """Kill, start again, and so on; then let it end, and look at what there is."""
        attempt = self._start()
        while len(self.kills) < self.wanted:
            aim = self._stages[int((len(self.kills) + self._ahead) * len(self._stages) / self.wanted)]
            if not self._await_aim(attempt, aim):
                attempt = self._once_more(aim)
            elif self.chance.random() < 0.15:
                attempt = self._stop_and_continue(attempt)
            else:
                self._kill(attempt, how="kill")
                attempt = self._start()
        self._end(attempt)
        self._judge()

    def _once_more(self, aim: str) -> Attempt:
        """The run came to its end before it was killed so often: the stage that is aimed at is taken back."""
        run = open_run(str(self.subject.url))
        if all(found.state == "done" for found in Standings(run).all()):
            retract(run, Standings(run).input(aim))
            self._shards = {}
        return self._start()

    def _start(self) -> Attempt:
        self.attempts += 1
        way = self.chance.choice(WAYS[self.subject.world_size])
        return Attempt(self.subject, f"{self.attempts:03d}", way)

    def _await_aim(self, attempt: Attempt, aim: str) -> bool:
        """Until the stage that is aimed at, or one behind it, is under way, then for a random while; False when the
        attempt came to its end.
        """
        deadline = time.monotonic() + _ATTEMPT_SECONDS
        if self.chance.random() < 0.15:  # before any stage, or wherever it hits
            time.sleep(self.chance.uniform(0, 4))
            return not attempt.ended
        while not attempt.ended:
            found = self._under_way()
            if found is not None and self._stages.index(found) >= self._stages.index(aim):
                time.sleep(self.chance.uniform(0, 1.3 * self._seconds[found] + 0.2))
                return not attempt.ended
            if time.monotonic() > deadline:
                raise TimeoutError(f"attempt {attempt.name} hangs: {self.subject.words(attempt.name)[-2000:]}")
            time.sleep(0.005)
        code = attempt.process.returncode
        assert code == 0, f"attempt {attempt.name} ({attempt.way}) {code}: {self.subject.words(attempt.name)[-3000:]}"
        return False

    def _under_way(self) -> str | None:
        run = open_subject(self.subject)
        found = under_way(run) if run is not None else None
        return found.step.name if found is not None else None

    def _kill(self, attempt: Attempt, *, how: str) -> None:
        run = open_subject(self.subject)
        self._check_shards()
        found = under_way(run) if run is not None else None
        target, pids = attempt.pids(self.chance.choice(TARGETS), self.chance)
        if not send(signal.SIGKILL, pids):
            return  # it ended meanwhile: nobody was killed
        stage = found.step.name if found is not None else "between"
        kill = Kill(stage, target, attempt.way, how)
        self.kills.append(kill)
        if self.chance.random() < 0.7 or found is None:
            try:
                if target == "child":  # its parent ends by itself, or goes on: nothing rests on an evaluation
                    await_(lambda: attempt.ended, seconds=_ATTEMPT_SECONDS, what="the end of what waited for it")
                kill.orphan_seconds = await_(attempt.gone, seconds=_ORPHAN_SECONDS, what="the end of all its processes")
            except TimeoutError as error:
                raise AssertionError(f"{kill}: {error}: {processes(attempt.mark)}") from None
            if run is not None and found is not None:
                self._measure(run, found, kill)
        # Else the next attempt comes while the last one's orphans are still there.

    def _measure(self, run: Run, found: Standing, kill: Kill) -> None:
        measured = progress(run, found)
        if measured is not None:
            kill.lost_steps, kill.lost_seconds = measured.reached - measured.saved, measured.lost
            assert measured.within_one_interval, f"{kill}: {measured}"
        self._shards = finished_shards(run, found)

    def _check_shards(self) -> None:
        """What was marked as done at the last kill was not made again since."""
        again = [file for file, when in self._shards.items() if file.exists() and file.stat().st_mtime_ns != when]
        assert not again, f"made again: {again}"
        self._shards = {}

    def _stop_and_continue(self, first: Attempt) -> Attempt:
        """Another attempt comes along while the first stands still; that is continued, and killed later on."""
        standing_still = [p.pid for p in processes(first.mark)]
        send(signal.SIGSTOP, standing_still)
        second = self._start()
        time.sleep(_PAST_THE_LEASE_SECONDS)
        send(signal.SIGCONT, standing_still)
        time.sleep(self.chance.uniform(0, 3))
        if not first.ended:
            self._kill(first, how="stop, go on, kill")
        return second

    def _end(self, attempt: Attempt) -> None:
        deadline = time.monotonic() + _ATTEMPT_SECONDS
        while not attempt.ended:
            assert time.monotonic() < deadline, f"hangs: {self.subject.words(attempt.name)[-2000:]}"
            time.sleep(0.05)
        last = Attempt(self.subject, "last", WAYS[self.subject.world_size][0])
        await_(lambda: last.ended, seconds=_ATTEMPT_SECONDS, what="the last attempt")
        assert last.process.returncode == 0, self.subject.words("last")[-3000:]

    def _judge(self) -> None:
        assert len(self.kills) >= self.wanted, f"{len(self.kills)} kills were made, of {self.wanted}"
        self._check_shards()
        assert_same_results(self.reference, self.subject.url)
        run, whole = open_run(str(self.subject.url)), Standings(open_run(str(self.reference)))
        for found in Standings(run).all():
            if found.step.stage in ("warm-up", "train"):
                assert found.key is not None
                expected = whole.input(found.step.name)
                assert logged_steps(run, found.step, found.key) == logged_steps(
                    whole.run, expected.step, str(expected.key)
                ), f"other steps in the metrics log of {found.step.name}"
        await_(lambda: not processes(self.subject.identity), seconds=20, what="the end of all processes")
        left = leftovers(self.subject)
        assert not left, f"left over: {left}"
        for kill in self.kills:
            kill.survived = True


def _standings(url: Path) -> list[Standing]:
    return Standings(open_run(str(url))).all()


def make_reference(folder: Path, world_size: int) -> Path:
    """An undisturbed run."""
    subject = make_subject(folder, world_size=world_size)
    started = time.monotonic()
    process = subject.start("loop, two processes" if world_size > 1 else "loop, inline", "undisturbed")
    assert process.wait(600) == 0, subject.words("undisturbed")
    print(f"undisturbed, {world_size} processes a stage: {time.monotonic() - started:.0f} s", flush=True)
    return subject.url


@contextmanager
def _folder(kept: str | None) -> Iterator[Path]:
    if kept is not None:
        yield Path(kept)
        return
    # A save is made durable each time: on a disk that others use too, that would be most of what is waited for.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def main() -> int:
    """Disturb; returns 1 when a run did not end as it has to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="DIR", help="keep everything there")
    given = parser.parse_args()
    kills: list[Kill] = []
    failed = 0
    with _folder(given.keep) as folder:
        sizes = sorted({1 + number % 2 for number in range(given.runs)})
        references = {size: make_reference(folder / f"undisturbed-{size}", size) for size in sizes}
        for number in range(given.runs):
            size = 1 + number % 2
            subject = make_subject(folder / f"run-{number}", world_size=size)
            chance = random.Random(f"{given.seed} {number}")
            disturbed = Disturbed(subject, references[size], given.kills, chance, ahead=number / given.runs)
            started = time.monotonic()
            try:
                disturbed.run()
                verdict = "as undisturbed"
            except (AssertionError, TimeoutError) as error:
                failed += 1
                verdict = f"FAILED: {error}"
            finally:
                send(signal.SIGKILL, [p.pid for p in processes(subject.identity)])
            kills += disturbed.kills
            seconds = time.monotonic() - started
            print(
                f"run {number}, {size} processes a stage: {len(disturbed.kills)} kills in {disturbed.attempts} "
                f"attempts, {seconds:.0f} s: {verdict}",
                flush=True,
            )
            if given.keep is None:
                shutil.rmtree(subject.folder)
    print_table(kills)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

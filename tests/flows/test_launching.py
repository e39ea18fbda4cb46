"""What is looked at before the first stage starts, and where a run stops for a look."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.launching import check_machine, run_step, stop_for_a_look
from flows.prepare import prepare_run
from flows.watch import Watch
from schemas import extras
from schemas.errors import ConfigError, PausedError
from schemas.loading import change_config
from schemas.plan import find_step
from schemas.stages import StageRequest, StageResult
from stages import execute
from storage import layout
from storage.artifacts import standing
from storage.run import Run
from tests.pipeline import prepare
from tests.storage.samples import snapshot


@pytest.mark.parametrize(
    ("visible", "settings", "advice"),
    [
        ("", (), None),
        ("-1", (), None),
        ("0,1,2,3", (), None),
        ("0,1,2", (), "world_size=2 "),  # a batch of 4 does not divide by 3
        ("5", (), "world_size=1 "),
        ("5", ("placement.device=cpu",), None),
        ("5", ("placement.launcher=deployment",), None),
    ],
)
def test_too_few_gpus_are_noticed_before_hours_of_work(
    tmp_path: Path,
    photographs: Path,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    settings: tuple[str, ...],
    advice: str | None,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("CYBORGS_LAUNCHER", raising=False)
    shared = ("numerics.world_size=4", "placement.launcher=process", *settings)
    run = prepare(tmp_path / "run", tiny_config, photographs, *shared)
    if advice is None:
        check_machine(run)
    else:
        with pytest.raises(ConfigError, match=rf"world_size 4.*this machine has.*{advice}"):
            check_machine(run)


def test_a_missing_package_is_named_before_hours_of_work(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stages run on this machine; in containers it is the stage that says so."""
    monkeypatch.delenv("CYBORGS_LAUNCHER", raising=False)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    here, refined, away = (
        prepare(tmp_path / name, tiny_config, photographs, *settings)
        for name, settings in (
            ("plain", ("placement.launcher=process",)),
            ("refined", ("placement.launcher=process", "masks.crf=true")),
            ("away", ("placement.launcher=deployment", "masks.crf=true")),
        )
    )
    check_machine(here)
    check_machine(away)
    with pytest.raises(ConfigError, match=r"^masks.crf: .*pip install pydensecrf2"):
        check_machine(refined)


def index(run: Run) -> StageResult:
    """As the flow has it done."""
    request = StageRequest(run=run.store.url, stage="index-images")
    return run_step(request, Watch(run, find_step(run.config, "index-images", None)))


def test_a_pause_outlives_a_kill_right_after_the_commit(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    """All that the next process knows stands on storage."""
    run = prepare(tmp_path / "run", tiny_config, photographs, "placement.pause_after=index-images")
    assert index(run).computed  # and killed here
    result = index(run)
    assert not result.computed
    with pytest.raises(PausedError, match=r"paused after index-images .*have a look: .*quarantine\.csv"):
        stop_for_a_look(run, result)
    stop_for_a_look(run, index(run))
    assert not [path for path in snapshot(tmp_path / "run") if path.endswith("pause")]


def test_nobody_stops_for_what_was_there_or_where_no_pause_is_wanted_any_more(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    url = str(tmp_path / "run")
    run = prepare(url, tiny_config, photographs)
    stop_for_a_look(run, index(run))

    def told(pause: str) -> Run:
        config = change_config(run.config, [f"placement.pause_after={pause}"])
        return prepare_run(url, config, name="tiny")

    paused = told("index-images")
    stop_for_a_look(paused, index(paused))  # done before
    paused.store.delete(f"{index(paused).path}/manifest.json")
    assert index(paused).computed  # and killed here
    without = told("[]")
    stop_for_a_look(without, index(without))
    again = told("index-images")
    stop_for_a_look(again, index(again))


def test_of_two_commands_at_once_each_stops_and_the_next_goes_on(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for the stage: one computes it and stops, with the only note, before the other has looked."""
    run = prepare(tmp_path / "run", tiny_config, photographs, "placement.pause_after=index-images")
    told: list[str] = []
    monkeypatch.setattr(execute, "_say", told.append)
    with ThreadPoolExecutor(2) as pool:
        with run.store.lease(f"{standing(run, 'index-images').folder}/{layout.LEASE}"):
            both = [pool.submit(index, run) for _ in range(2)]
            ending = time.monotonic() + 30
            while sum("waiting for" in line for line in told) < 2:
                assert time.monotonic() < ending, told
                time.sleep(0.05)
        results = [each.result(timeout=60) for each in both]
    for result in results:
        with pytest.raises(PausedError, match="the same command goes on"):
            stop_for_a_look(run, result)
    stop_for_a_look(run, index(run))


def test_a_pause_that_was_called_off_while_the_stage_was_at_work_is_none(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    run = prepare(tmp_path / "run", tiny_config, photographs, "placement.pause_after=index-images")
    result = index(run)
    prepare_run(str(tmp_path / "run"), change_config(run.config, ["placement.pause_after=[]"]), name="tiny")
    stop_for_a_look(run, result)

"""What the runs of a study take over from each other, and which member a command takes."""

import contextlib
from pathlib import Path

import pytest

from flows.study import _child, _others, _shared, _skipped, _try_again_what_was_skipped, adopt, conduct, settled
from flows.study_checks import check_study
from schemas.digests import unseal
from schemas.errors import ConfigError, DataError, PreemptedError
from schemas.results import SkippedProtocol
from schemas.study import Study
from storage import layout
from storage.artifacts import Standings
from storage.photographs import list_candidates, listing_digest
from storage.run import Run
from storage.store import open_store
from storage.studies import Member, check_root
from tests.storage.samples import commit, make_photographs, make_run, small_config


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """Two that part in the training; the first has come that far."""
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", small_config(train={"vmf_every_epochs": 0}))
    for stage, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0), ("train", 0)):
        commit(first, stage, cycle, content=stage)  # type: ignore[arg-type]
    return first, second


def states(run: Run) -> dict[str, str]:
    return {found.step.name: found.state for found in Standings(run).all()}


def test_equal_steps_are_copied_and_others_are_not(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs
    assert adopt(second, [first]) == ["index-images", "warm-up", "bootstrap-masks cycle 0"]
    assert capsys.readouterr().err.splitlines()[1] == f"warm-up: as in {first.store.url}"
    assert states(second)["train cycle 0"] == "pending"
    before, after = (Standings(run).input("warm-up") for run in runs)
    assert before.manifest == after.manifest
    assert second.store.read(f"{after.folder}/file.bin") == b"data"
    assert adopt(second, [first]) == []
    assert "lease" not in " ".join(second.store.list(""))


def test_what_nobody_has_made_is_left_to_the_run(runs: tuple[Run, Run]) -> None:
    first, second = runs
    assert adopt(second, []) == []
    assert adopt(first, [second]) == []


def test_damaged_files_are_not_passed_on(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs
    folder = Standings(first).input("warm-up").folder
    first.store.write(f"{folder}/file.bin", b"atad")
    assert adopt(second, [first]) == ["index-images"]
    assert "warm-up: not taken over: " in capsys.readouterr().err
    assert states(second) == {**states(second), "index-images": "done", "warm-up": "pending"}


def make_study(**more: object) -> Study:
    return Study.model_validate(
        {
            "base": "small",
            "seeds": [1, 2],
            "variants": {"a": [], "b": ["masks.source=grid"]},
            "measure": [{"protocol": "region-linear", "data": "/"}],
        }
        | more
    )


def test_members_come_seed_by_seed_and_those_at_work_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two commands that start at once neither waits while there is a free member."""
    root, seen = str(tmp_path), []
    at_work = contextlib.ExitStack()

    def train(_study: Study, member: Member, _root: str, **_: object) -> None:
        seen.append(member.name)
        if len(seen) == 3:
            at_work.close()

    monkeypatch.setattr("flows.study._train", train)
    with at_work:
        at_work.enter_context(open_store(root).lease(Member("a", 1).lease))
        assert conduct(make_study(), root, data=("/photographs",)) == []
    assert seen == ["b-1", "a-2", "b-2", "a-1"]


def test_what_is_measured_on_has_to_be_there(tmp_path: Path) -> None:
    """Before weeks of training, not after them."""
    study = make_study(measure=[{"protocol": "region-linear", "data": f"{tmp_path}/nowhere"}])
    with pytest.raises(ConfigError, match=f"measure region-linear: {tmp_path}/nowhere: no such folder"):
        conduct(study, str(tmp_path / "study"), data=())
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": [], "b": ["network.start=/no/where.pth"]}, "variant b: network.start /no/where.pth: no such file"),
        ({"a": ["masks.source=files", "masks.source_paths=[/no]"]}, "variant a: masks.source_paths /no: no such file"),
        ({"a": [], "w": {"weights": "/no.pth"}}, "variant w: weights /no.pth: no such file"),
    ],
)
def test_what_a_variant_starts_from_has_to_be_there(tmp_path: Path, variants: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_study(make_study(variants=variants), str(tmp_path), data=("/photographs",))


def test_photographs_have_to_be_named_until_all_runs_know_them(tmp_path: Path) -> None:
    study = make_study(seeds=[1])
    with pytest.raises(DataError, match="no photographs given: add --data FOLDER, or `data:`"):
        check_study(study, str(tmp_path), data=())
    for name in ("a-1", "b-1"):
        make_run(tmp_path / "runs" / name)
    check_study(study, str(tmp_path), data=())
    check_study(make_study(variants={"random": {"weights": "random"}}), str(tmp_path / "other"), data=())


def test_one_table_is_of_the_same_photographs(tmp_path: Path) -> None:
    """Those of a study that was begun with others would stand beside them."""
    study, root = make_study(seeds=[1]), str(tmp_path)
    one, two = (make_photographs(tmp_path / name, count) for name, count in (("one", 3), ("two", 4)))
    digest = listing_digest(list_candidates((str(one),)))
    run = make_run(tmp_path / "runs" / "a-1", data=(str(one),), pins={"photographs": digest})
    check_study(study, root, data=(str(two),))  # nothing stands on them yet
    commit(run, "index-images")
    check_study(study, root, data=(str(one),))
    with pytest.raises(ConfigError, match=r"two: not the photographs that .*runs/a-1 has learnt from.* another --root"):
        check_study(study, root, data=(str(two),))
    one.rename(tmp_path / "moved")
    check_study(study, root, data=(str(tmp_path / "moved"),))


def test_what_is_not_shared_after_all_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kept, said in (("all", ""), ("last:1", "warning: placement.keep_checkpoints=last:1: warm-up is trained again")):
        check_study(make_study(set=[f"placement.keep_checkpoints={kept}"]), str(tmp_path), data=("/photographs",))
        assert capsys.readouterr().err.startswith(said)
        assert bool(said) == (kept != "all")


def test_a_skipped_protocol_costs_no_other_its_result(tmp_path: Path) -> None:
    study = make_study(seeds=[1])
    run = make_run(tmp_path / "runs" / "a-1")
    for stage, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0), ("train", 0)):
        commit(run, stage, cycle, content=stage)  # type: ignore[arg-type]
    commit(run, "evaluate", 0)
    found = Standings(run).input("evaluate cycle 0")
    results = {
        "knn.json": SkippedProtocol(protocol="knn", skipped="no labels").model_dump_json().encode(),
        "voc-detection.json": b"figures",
        "voc-detection-epoch-00002.json": b"earlier figures",
    }
    for name, text in results.items():
        run.store.write(f"{found.folder}/{layout.PROTOCOLS}/{name}", text)
    with open_store(str(tmp_path)).lease(Member("a", 1).lease):  # another command is at work on it
        _try_again_what_was_skipped(study, str(tmp_path))
    assert Standings(run).input("evaluate cycle 0").state == "done"
    _try_again_what_was_skipped(study, str(tmp_path))
    assert Standings(run).input("evaluate cycle 0").state == "partial"
    kept = {path: unseal(run.store.read(path)) for path in run.store.list(str(found.folder))}
    assert kept == {
        f"{found.folder}/{layout.PARTIAL}/voc-detection": b"figures",
        f"{found.folder}/{layout.PARTIAL}/voc-detection-epoch-00002": b"earlier figures",
    }


SAVES = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("measuring", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_a_measurement_saves_before_the_study_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(line: str) -> None:
        assert line == "measuring"
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.study.print_line", interrupt)
    with pytest.raises(PreemptedError, match="^knn: stopped$"):
        _child(["-c", SAVES, str(tmp_path / "state")], "knn")
    assert (tmp_path / "state").read_text() == "saved"


def test_a_protocol_that_was_skipped_is_noticed(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    commit(run, "evaluate", 0)
    assert _skipped(run) == []
    found = Standings(run).input("evaluate cycle 0")
    text = SkippedProtocol(protocol="knn", skipped="no labels").model_dump_json()
    run.store.write(f"{found.folder}/{layout.PROTOCOLS}/knn.json", text.encode())
    assert [(each.step.name, why) for each, why in _skipped(run)] == [
        ("evaluate cycle 0", "knn was skipped: no labels")
    ]


def test_a_member_that_cannot_be_read_is_no_others_trouble(tmp_path: Path) -> None:
    study = make_study()
    make_run(tmp_path / "runs" / "a-2")
    broken = make_run(tmp_path / "runs" / "b-1")
    for version in (tmp_path / "runs" / "b-1").rglob("*.json"):
        version.write_text("{")
    assert broken.store.url not in [each.store.url for each in _others(study, Member("a", 1), str(tmp_path))]
    assert [each.store.url for each in _others(study, Member("a", 1), str(tmp_path))] == [f"{tmp_path}/runs/a-2"]


def test_all_runs_of_a_study_have_one_number_format(tmp_path: Path) -> None:
    study, member = make_study(), Member("b", 2)
    assert settled(study, member, str(tmp_path)).numerics.precision in ("float32", "bfloat16")
    for found in ("float32", "bfloat16"):  # by the machine that was first
        (tmp_path / "precision").write_text(found)
        assert settled(study, member, str(tmp_path)).numerics.precision == found
    chosen = make_study(set=["numerics.precision=float32"])
    assert settled(chosen, member, str(tmp_path)) == chosen.config("b", 2)


def test_a_root_is_a_folder() -> None:
    with pytest.raises(ConfigError, match="s3://bucket/study: a study is kept in a folder"):
        check_root("s3://bucket/study")


def test_what_several_make_alike_is_known_beforehand() -> None:
    study = make_study(
        seeds=[1],
        variants={
            "a": [],
            "b": ["train.vmf_every_epochs=0"],
            "c": ["network.start=/one.pth"],
            "d": ["network.start=/other.pth"],
        },
    )
    shared = {name: [step.name for step in _shared(study, Member(name, 1))] for name in "abcd"}
    assert shared["a"] == shared["b"] == ["index-images", "warm-up", "bootstrap-masks cycle 0"]
    assert shared["c"] == shared["d"] == ["index-images"]

"""run.json: created once, opened, never silently wrong."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.artifacts import result_digest
from schemas.config import RunConfig
from schemas.digests import digest_json
from schemas.errors import RunError
from storage.run import (
    Run,
    check_placement,
    config_digest,
    create_run,
    defines_result,
    difference,
    find_run,
    mend_record,
    open_run,
    replace_record,
    with_pinned_numerics,
)
from tests.storage.samples import make_record, make_run, small_config, snapshot


def edit(root: Path, *path: str, value: Any) -> None:
    """Change one entry of run.json as an editor would."""
    tree = json.loads((root / "run.json").read_text())
    node = tree
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    (root / "run.json").write_text(json.dumps(tree))


def without_copies(root: Path) -> Path:
    """run.json of a run that has it alone, as the first versions made them."""
    shutil.rmtree(root / "history")
    return root / "run.json"


def test_what_was_created_is_opened(tmp_path: Path) -> None:
    record = make_record(pins={"photographs": "1" * 32, "start": "2" * 32}, start="weights.pth")
    create_run(str(tmp_path / "run"), record)
    assert open_run(str(tmp_path / "run")).record == record


def test_where_there_is_no_run(tmp_path: Path) -> None:
    assert find_run(str(tmp_path / "none")) is None
    (tmp_path / "file").write_text("")
    assert find_run(str(tmp_path / "file")) is None
    with pytest.raises(RunError, match=r"run .*none: there is no run here \(no run\.json\)"):
        open_run(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists(), "looking must not make anything"


def test_creating_again_with_the_same_settings_opens_the_first(tmp_path: Path) -> None:
    first = make_run(tmp_path / "run", name="first")
    assert make_run(tmp_path / "run", name="second").record == first.record


def test_creating_again_with_other_settings_is_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="other settings"):
        make_run(tmp_path / "run", small_config(seed=1))
    assert open_run(str(tmp_path / "run")).record == first.record


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": ("elsewhere",)}, "photographs"),
        ({"pins": {"photographs": "1" * 32}}, "photographs"),
        ({"pins": {"photographs": "0" * 32, "start": "2" * 32}, "start": "weights.pth"}, "start weights"),
        ({"data": ("elsewhere",), "config": small_config(seed=1)}, "settings and photographs"),
    ],
)
def test_creating_again_from_something_else_is_refused_and_says_what(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    """Two at once: the second has seen no run, and must not go on with what the first was told."""
    first = make_run(tmp_path / "run")
    whole = snapshot(tmp_path / "run")
    with pytest.raises(RunError, match=rf"run .*run: somebody else has just created it with other {what}: choose"):
        make_run(tmp_path / "run", **changes)
    assert snapshot(tmp_path / "run") == whole
    assert open_run(str(tmp_path / "run")).record == first.record


def test_a_creation_that_is_refused_leaves_no_run_behind(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "history").write_text("a person's own")
    with pytest.raises(RunError, match="history.*a file stands in the way"):
        make_run(root)
    assert snapshot(root) == {"history": b"a person's own"}
    assert find_run(str(root)) is None
    (root / "history").unlink()
    assert open_run(make_run(root).store.url).restored is None


def test_a_second_creation_that_is_refused_leaves_the_first(tmp_path: Path) -> None:
    root = tmp_path / "run"
    make_run(root)
    without_copies(root)
    (root / "history").write_text("")
    whole = snapshot(root)
    with pytest.raises(RunError, match="history.*a file stands in the way"):
        make_run(root)
    assert snapshot(root) == whole


def test_a_folder_in_place_of_the_record_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    for attempt in (find_run, open_run, lambda url: make_run(Path(url))):
        with pytest.raises(RunError, match=r"run\.json cannot be read: Is a directory") as caught:
            attempt(str(tmp_path / "run"))
        assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "run.json"]


def test_a_record_that_may_not_be_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied here by hand: root may read everything."""
    make_run(tmp_path / "run")

    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(RunError, match=r"run\.json cannot be read: Permission denied") as caught:
        find_run(str(tmp_path / "run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}'])
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, text: bytes) -> None:
    make_run(tmp_path / "run")
    without_copies(tmp_path / "run").write_bytes(text)
    with pytest.raises(RunError, match=r"run .*run: run\.json cannot be read .*damaged") as caught:
        open_run(str(tmp_path / "run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [0, 2])
def test_a_record_of_another_format_is_refused_with_the_versions(tmp_path: Path, version: int) -> None:
    """As another version writes it: whole, by its own digests."""
    make_run(tmp_path / "run")
    tree = json.loads((tmp_path / "run" / "run.json").read_text())
    del tree["checks"]
    tree |= {"format": version, "created": tree["created"] | {"code": "9.8"}, "new": 1}
    (tmp_path / "run" / "run.json").write_text(json.dumps(tree))
    with pytest.raises(
        RunError, match=rf"run\.json was written in format {version} by version 9\.8; this .* format 1: "
    ):
        open_run(str(tmp_path / "run"))


def test_a_record_of_the_first_versions_is_read(tmp_path: Path) -> None:
    """They wrote no digests beside what they said."""
    record = make_run(tmp_path / "run").record
    (tmp_path / "run" / "run.json").write_text(record.model_dump_json(indent=1))
    assert open_run(str(tmp_path / "run")).record == record


def test_a_record_cut_short_is_one_clear_line(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    whole = without_copies(tmp_path / "run").read_bytes()
    (tmp_path / "run" / "run.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged"):
        find_run(str(tmp_path / "run"))


def test_a_record_edited_by_hand_is_noticed(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    without_copies(tmp_path / "run")
    edit(tmp_path / "run", "config", "train", "temperature", value=0.2)
    with pytest.raises(RunError, match="edited by hand"):
        open_run(str(tmp_path / "run"))


def test_an_impossible_setting_in_the_record_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    without_copies(tmp_path / "run")
    edit(tmp_path / "run", "config", "train", "temperature", value=-1)
    with pytest.raises(RunError, match=r"config\.train\.temperature"):
        open_run(str(tmp_path / "run"))


def test_placement_may_be_edited_by_hand(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    edit(tmp_path / "run", "config", "placement", "device", value="cuda:1")
    assert open_run(str(tmp_path / "run")).config.placement.device == "cuda:1"


def test_an_unknown_key_of_a_later_version_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    without_copies(tmp_path / "run")
    edit(tmp_path / "run", "config", "train", "new_setting", value=1)
    with pytest.raises(RunError, match="another version"):
        open_run(str(tmp_path / "run"))


def test_a_change_is_written_down_with_what_was_before(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for number in (1, 2):
        record = run.record.model_copy(update={"data": (str(number),)})
        run = replace_record(run, record, note={"data": (list(run.record.data), [str(number)])})
    found = open_run(str(tmp_path / "run")).record
    assert found.data == ("2",)
    assert [change.what["data"] for change in found.history] == [(["photographs"], ["1"]), (["1"], ["2"])]
    assert all(change.who and change.when for change in found.history)


def test_difference_names_settings_with_before_and_after() -> None:
    after = small_config(train={"temperature": 0.2}, masks={"clusters": [2, 9]}, seed=4)
    assert difference(small_config(), after) == {
        "seed": (0, 4),
        "train.temperature": (0.1, 0.2),
        "masks.clusters": ([2, 256], [2, 9]),
    }
    assert difference(after, after) == {}


def test_only_placement_is_free() -> None:
    assert not defines_result("placement.device")
    assert all(defines_result(name) for name in ("seed", "numerics.threads", "train.temperature"))


def test_the_config_digest_follows_all_but_placement() -> None:
    base = result_digest(RunConfig())
    assert config_digest(RunConfig()) == base
    assert result_digest(RunConfig.model_validate({"placement": {"device": "cpu", "log_every_steps": 3}})) == base
    for part in (
        {"seed": 1},
        {"numerics": {"threads": 3}},
        {"train": {"temperature": 0.2}},
        {"evaluate": {"images": 9}},
    ):
        assert result_digest(RunConfig.model_validate(part)) != base


def test_numerics_left_open_stay_as_pinned_and_others_count() -> None:
    pinned = small_config(numerics={"precision": "bfloat16", "threads": 7})
    kept = with_pinned_numerics(small_config(numerics={"precision": "auto"}), pinned)
    assert (kept.numerics.precision, kept.numerics.threads) == ("bfloat16", 7)
    said = with_pinned_numerics(small_config(numerics={"precision": "float32", "threads": 2}), pinned)
    assert (said.numerics.precision, said.numerics.threads) == ("float32", 2)


def _rewrite(path: Path, *, checked: bool, **changes: dict[str, Any]) -> None:
    """What another version would have written: groups of settings changed, all digests right."""
    tree = json.loads(path.read_text())
    tree.pop("checks")
    for group, settings in changes.items():
        tree["config"][group] = settings
    tree["config_digest"] = digest_json({name: part for name, part in tree["config"].items() if name != "placement"})
    if checked:
        config = {name: part for name, part in tree["config"].items() if name != "placement"}
        placement = digest_json(tree["config"]["placement"])
        tree["checks"] = {"record": digest_json(tree | {"config": config}), "placement": placement}
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize("checked", [True, False])
def test_a_run_of_a_version_with_fewer_settings_is_read(tmp_path: Path, checked: bool) -> None:
    run = make_run(tmp_path / "run")
    config = run.config.model_dump(mode="json")
    fewer = {name: value for name, value in config["masks"].items() if not name.startswith("crf")}
    _rewrite(tmp_path / "run" / "run.json", checked=checked, masks=fewer)
    assert open_run(str(tmp_path / "run")).record == run.record


def test_a_run_of_a_version_with_other_settings_is_refused_and_the_version_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    more = run.config.model_dump(mode="json")["masks"] | {"colour": "red"}
    _rewrite(tmp_path / "run" / "run.json", checked=True, masks=more)
    with pytest.raises(RunError, match=rf"written by version {run.record.created.code}.*masks\.colour: extra"):
        open_run(str(tmp_path / "run"))


def test_a_check_that_is_gone_is_told_and_no_fault(tmp_path: Path) -> None:
    url = str(tmp_path / "run")
    create_run(url, make_record())
    file = Path(url) / "run.json"
    file.write_text(file.read_text().replace('"placement": "', '"placemenu": "'))
    told = check_placement(open_run(url))
    assert told is not None
    assert "is not what was written" in told


def test_a_changed_placement_is_told_with_what_was_before(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    edit(tmp_path / "run", "config", "placement", "device", value="cuda:1")
    told = check_placement(open_run(str(tmp_path / "run")))
    assert told is not None
    assert "(placement.device 'auto' -> 'cuda:1')" in told


def changed(run: Run, *temperatures: float) -> Run:
    """A run whose setting was changed so often."""
    for value in temperatures:
        config = small_config(train={"temperature": value})
        record = run.record.model_copy(update={"config": config, "config_digest": result_digest(config)})
        run = replace_record(run, record, note=difference(run.config, config))
    return run


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def flip(file: Path) -> None:
    file.write_text(file.read_text().replace('"temperature": 0.3', '"temperature": 0.7'))


def test_a_damaged_name_of_a_placement_setting_is_damage_and_no_other_version(tmp_path: Path) -> None:
    record = make_run(tmp_path / "run").record
    file = tmp_path / "run" / "run.json"
    file.write_text(file.read_text().replace('"log_every_steps"', '"log_ev3ry_steps"'))
    found = open_run(str(tmp_path / "run"))
    assert found.record == record
    assert found.restored is not None and "log_ev3ry_steps" in found.restored


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_record_is_restored_with_all_changes(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    run = changed(make_run(tmp_path / "run"), 0.2, 0.3)
    file = tmp_path / "run" / "run.json"
    whole = file.read_bytes()
    damage(file)
    found = open_run(str(tmp_path / "run"))
    assert found.record == run.record
    assert found.restored is not None
    assert found.restored.startswith("run.json ") and found.restored.endswith("restored from history/run-00002.json")
    assert not file.exists() or file.read_bytes() != whole, "looking mends nothing"
    mend_record(found)
    assert file.read_bytes() == whole
    assert open_run(str(tmp_path / "run")).restored is None


def test_where_the_newest_copy_is_damaged_too_what_is_lost_is_told(tmp_path: Path) -> None:
    changed(make_run(tmp_path / "run"), 0.2, 0.3)
    cut(tmp_path / "run" / "run.json")
    cut(tmp_path / "run" / "history" / "run-00002.json")
    found = open_run(str(tmp_path / "run"))
    assert found.config.train.temperature == 0.2
    assert found.restored is not None
    assert "run-00001.json, since history/run-00002.json is damaged too: what was changed after" in found.restored
    mend_record(found)
    assert changed(open_run(str(tmp_path / "run")), 0.3).record == open_run(str(tmp_path / "run")).record


def test_a_change_that_was_cut_off_before_it_reached_the_record_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    record = changed(run, 0.2).record
    (tmp_path / "run" / "run.json").write_bytes(before)
    found = open_run(str(tmp_path / "run"))
    assert found.record == record
    assert found.restored is not None and "older than the last change" in found.restored


def test_of_two_changes_at_once_the_second_is_told_and_changes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = changed(run, 0.2).record
    whole = snapshot(tmp_path / "run")
    with pytest.raises(RunError, match=r"somebody else has just changed it \(.*train\.temperature\).*again"):
        changed(run, 0.3)
    assert snapshot(tmp_path / "run") == whole
    assert open_run(str(tmp_path / "run")).record == first


def test_of_many_changes_at_once_one_wins_and_all_others_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    start = threading.Barrier(6)

    def change(number: int) -> bool:
        start.wait()
        try:
            changed(run, 0.2 + number / 100)
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(change, range(6)))
    assert sum(won) == 1
    found = open_run(str(tmp_path / "run"))
    assert found.config.train.temperature == 0.2 + won.index(True) / 100
    assert len(found.record.history) == 1


def test_a_run_of_the_first_versions_gets_its_copy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = without_copies(tmp_path / "run")
    mend_record(open_run(str(tmp_path / "run")))
    cut(file)
    assert open_run(str(tmp_path / "run")).record == run.record

"""Where a step stands, reading and committing artifacts, and early cut-off."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DamagedArtifactError, RunError
from schemas.plan import artifact_key, find_step, ingredients
from schemas.stages import StageName
from storage import layout
from storage.artifacts import Standings, commit_artifact, load_artifact, retract, standing, view_artifact
from storage.provenance import provenance
from storage.run import Run, open_run, replace_record
from storage.verification import verify_run
from tests.storage.samples import commit, make_run, small_config


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def states(run: Run) -> dict[str, str]:
    return {found.step.name: found.state for found in Standings(run).all()}


def commit_all(run: Run, *, content: str = "c") -> None:
    """Commit every step; the content of each is its own."""
    for found in Standings(run).all():
        commit(run, found.step.stage, found.step.cycle, content=f"{content} {found.step.name}")


def manifest_path(run: Run, stage: StageName = "index-images", cycle: int | None = None) -> str:
    return f"{standing(run, stage, cycle).folder}/{layout.MANIFEST}"


def test_a_new_run_is_all_pending_and_only_the_first_key_is_known(run: Run) -> None:
    found = Standings(run).all()
    assert {each.state for each in found} == {"pending"}
    assert [each.key is not None for each in found] == [True] + [False] * (len(found) - 1)


def test_a_committed_step_is_done_and_the_next_has_a_key(run: Run) -> None:
    manifest = commit(run, "index-images", content="rows")
    found = standing(open_run(run.store.url), "index-images")
    assert (found.state, found.problem) == ("done", None)
    assert found.manifest == manifest
    assert found.folder == f"index/{manifest.key}"
    warm_up = standing(run, "warm-up")
    assert (warm_up.state, warm_up.key is not None) == ("pending", True)
    assert standing(run, "bootstrap-masks", 0).key is None


def test_the_manifest_tells_what_it_was_made_from(run: Run) -> None:
    commit(run, "index-images", content="rows")
    manifest = commit(run, "warm-up", data=b"weights")
    told = json.loads(run.store.read(manifest_path(run, "warm-up")))
    assert told["ingredients"]["inputs"] == {"index": "rows"}
    assert artifact_key(told["ingredients"]) == told["key"] == manifest.key
    assert told["ingredients"]["config"]["network"]["architecture"] == "resnet18"
    assert [(entry["path"], entry["bytes"]) for entry in told["files"]] == [("file.bin", 7)]
    assert told["provenance"]["packages"]["zarr"]


def test_keys_come_from_the_content_of_the_inputs(run: Run) -> None:
    commit_all(run)
    step = find_step(run.config, "train", 1)
    parts = ingredients(
        run.config,
        step,
        inputs={"index": "c index-images", "checkpoint": "c train cycle 0", "masks": "c bootstrap-masks cycle 1"},
        pins=run.record.pins,
    )
    assert standing(run, "train", 1).key == artifact_key(parts)
    assert set(states(run).values()) == {"done"}


def remade(run: Run, stage: StageName, cycle: int | None, content: str) -> None:
    retract(run, standing(run, stage, cycle))
    commit(run, stage, cycle, content=content)


def test_the_same_content_made_again_leaves_all_that_follows_done(run: Run) -> None:
    commit_all(run)
    remade(run, "warm-up", None, "c warm-up")
    assert set(states(run).values()) == {"done"}


def test_other_content_makes_what_follows_pending_and_nothing_before(run: Run) -> None:
    commit_all(run)
    remade(run, "train", 0, "other")
    found = states(run)
    pending = {name for name, state in found.items() if state == "pending"}
    assert pending == {"evaluate cycle 0", "bootstrap-masks cycle 1", "train cycle 1", "evaluate cycle 1"}


def test_going_back_to_the_old_content_finds_the_old_artifacts(run: Run) -> None:
    commit_all(run)
    remade(run, "train", 0, "other")
    remade(run, "train", 0, "c train cycle 0")
    assert set(states(run).values()) == {"done"}


def test_an_edited_config_leads_to_other_keys_and_back(run: Run) -> None:
    commit_all(run)
    edited = small_config(train={"temperature": 0.3})
    other = Run(run.store, run.record.model_copy(update={"config": edited}))
    assert {name for name, state in states(other).items() if state == "pending"} == {
        f"{stage} cycle {cycle}" for stage in ("train", "evaluate") for cycle in (0, 1)
    } | {"bootstrap-masks cycle 1"}
    assert set(states(run).values()) == {"done"}


def test_placement_never_matters(run: Run) -> None:
    commit_all(run)
    moved = small_config(placement={"device": "cuda:1", "loader_workers": 7, "launcher": "inline", "data": ["x"]})
    assert set(states(Run(run.store, run.record.model_copy(update={"config": moved}))).values()) == {"done"}


@pytest.mark.parametrize(("damage", "size"), [("missing", None), ("short", 3), ("long", 9)])
def test_a_file_missing_or_of_another_size_is_not_done_and_named(run: Run, damage: str, size: int | None) -> None:
    commit(run, "index-images")
    path = f"{standing(run, 'index-images').folder}/file.bin"
    run.store.delete(path)
    if size is not None:
        run.store.write(path, b"x" * size)
    found = standing(run, "index-images")
    assert found.state == "pending"
    assert found.problem is not None
    assert path in found.problem
    assert standing(run, "warm-up").key is None, damage


@pytest.mark.parametrize("field", ["content", "key", "summary", "files", "ingredients", "cycle", "stage"])
def test_an_edited_manifest_is_damaged(run: Run, field: str) -> None:
    commit(run, "index-images")
    path = manifest_path(run)
    told = json.loads(run.store.read(path))
    told[field] = {
        "content": "forged",
        "key": "0" * 20,
        "summary": {"files": 2},
        "files": [],
        "ingredients": {},
        "cycle": 0,
        "stage": "train",
    }[field]
    run.store.write(path, json.dumps(told).encode())
    found = standing(run, "index-images")
    assert (found.state, found.manifest) == ("pending", None)
    assert found.problem is not None
    assert path in found.problem
    assert "\n" not in found.problem


@pytest.mark.parametrize("digest", ["", None])
def test_a_manifest_without_its_digest_is_damaged(run: Run, digest: str | None) -> None:
    commit(run, "index-images")
    path = manifest_path(run)
    told = json.loads(run.store.read(path)) | {"content": "forged", "digest": digest}
    if digest is None:
        del told["digest"]
    run.store.write(path, json.dumps(told).encode())
    assert standing(run, "index-images").state == "pending"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b'{"format": 1}'])
def test_a_manifest_that_is_no_manifest_is_damaged(run: Run, text: bytes) -> None:
    commit(run, "index-images")
    path = manifest_path(run)
    run.store.write(path, text)
    found = standing(run, "index-images")
    assert (found.state, path in (found.problem or "")) == ("pending", True)


def test_a_manifest_copied_from_elsewhere_does_not_count(run: Run) -> None:
    commit(run, "index-images")
    other = Run(run.store, run.record.model_copy(update={"config": small_config(seed=5)}))
    run.store.write(manifest_path(other), run.store.read(manifest_path(run)))
    found = standing(other, "index-images")
    assert found.state == "pending"
    assert found.problem is not None
    assert "another artifact" in found.problem


def test_provenance_is_beside_the_digest(run: Run) -> None:
    """Two machines may make the same artifact: host and time never damage it."""
    manifest = commit(run, "index-images")
    told = json.loads(run.store.read(manifest_path(run)))
    told["provenance"]["host"] = "another"
    run.store.write(manifest_path(run), json.dumps(told).encode())
    found = standing(run, "index-images")
    assert found.manifest is not None
    assert (found.state, found.manifest.digest) == ("done", manifest.digest)


def test_partial_work_is_recognised_and_gone_after_the_commit(run: Run) -> None:
    folder = standing(run, "index-images").folder
    run.store.write(f"{folder}/{layout.PARTIAL}/rows-000000.json", b"[]")
    assert standing(run, "index-images").state == "partial"
    manifest = commit(run, "index-images")
    assert standing(run, "index-images").state == "done"
    assert [entry.path for entry in manifest.files] == ["file.bin"], "partial work is no part of it"
    assert run.store.list(f"{folder}/{layout.PARTIAL}") == []


def test_a_lease_alone_is_not_partial_work_and_no_part_of_the_artifact(run: Run) -> None:
    folder = standing(run, "index-images").folder
    with run.store.lease(f"{folder}/{layout.LEASE}"):
        assert standing(run, "index-images").state == "pending"
        manifest = commit(run, "index-images")
    assert [entry.path for entry in manifest.files] == ["file.bin"]


def test_files_without_a_manifest_are_no_artifact(run: Run) -> None:
    run.store.write(f"{standing(run, 'index-images').folder}/photographs.csv", b"row\n")
    assert standing(run, "index-images").state == "pending"


def test_the_second_commit_under_a_key_leaves_the_first_manifest(run: Run) -> None:
    first = commit(run, "index-images", content="first")
    before = run.store.read(manifest_path(run))
    assert commit(run, "index-images", content="second") == first
    assert run.store.read(manifest_path(run)) == before


def test_a_commit_replaces_a_damaged_manifest(run: Run) -> None:
    commit(run, "index-images", content="first")
    run.store.write(manifest_path(run), b"{")
    assert commit(run, "index-images", content="second").content == "second"
    assert standing(run, "index-images").state == "done"


def test_loading_gives_local_paths(run: Run) -> None:
    commit(run, "index-images", data=b"whole")
    assert load_artifact(run, standing(run, "index-images")).path("file.bin").read_bytes() == b"whole"


def test_loading_what_is_not_done_says_what_makes_it(run: Run) -> None:
    with pytest.raises(RunError, match="index-images of .* is not done: `cyborgs run`"):
        load_artifact(run, standing(run, "index-images"))


@pytest.mark.parametrize("position", [0, 3])
def test_a_flipped_byte_is_noticed_and_the_artifact_taken_back(run: Run, position: int) -> None:
    commit(run, "index-images", data=b"data")
    found = standing(run, "index-images")
    damaged = bytearray(b"data")
    damaged[position] ^= 1
    run.store.write(f"{found.folder}/file.bin", bytes(damaged))
    assert standing(run, "index-images").state == "done", "sizes alone cannot tell"
    with pytest.raises(DamagedArtifactError, match=r"file\.bin is damaged.*again") as caught:
        load_artifact(run, found)
    assert "\n" not in str(caught.value)
    assert standing(run, "index-images").state == "pending"
    assert run.store.size(f"{found.folder}/manifest.json") is None


def test_who_only_looks_is_told_of_a_flipped_byte_and_leaves_the_artifact(run: Run) -> None:
    commit(run, "index-images")
    found = standing(run, "index-images")
    assert view_artifact(run, found).manifest == found.manifest
    path = run.store.fetch(f"{found.folder}/file.bin")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedArtifactError, match=r"^file.bin is damaged: `cyborgs verify .*run`"):
        view_artifact(run, found)
    assert standing(run, "index-images").state == "done"


def test_a_file_that_vanished_since_is_damage_too(run: Run) -> None:
    commit(run, "index-images")
    found = standing(run, "index-images")
    run.store.delete(f"{found.folder}/file.bin")
    with pytest.raises(DamagedArtifactError, match=r"file\.bin"):
        load_artifact(run, found)


def test_taking_back_keeps_the_lease_of_who_works_on_it(run: Run) -> None:
    commit(run, "index-images")
    found = standing(run, "index-images")
    with run.store.lease(f"{found.folder}/{layout.LEASE}"):
        retract(run, found)
        assert run.store.list(str(found.folder)) == [f"{found.folder}/{layout.LEASE}"]


def test_a_change_of_the_record_reaches_the_standings(run: Run) -> None:
    commit_all(run)
    record = run.record.model_copy(update={"pins": {"photographs": "1" * 32}})
    note: dict[str, tuple[Any, Any]] = {"data": (["a"], ["b"])}
    assert set(states(replace_record(run, record, note=note)).values()) == {"pending"}


def test_what_is_committed_names_every_file_below_its_folder(run: Run) -> None:
    step = find_step(run.config, "bootstrap-masks", 0)
    folder = layout.artifact_folder(step, "k")
    for name in ("masks.zarr/zarr.json", "masks.zarr/labels/c/0/0/0", "figure.png"):
        run.store.write(f"{folder}/{name}", name.encode())
    manifest = commit_artifact(run, step, key="k", parts={}, content="c", summary={}, made_by=provenance())
    assert folder == "cycle-000/masks/k"
    assert {entry.path: entry.bytes for entry in manifest.files} == {
        "figure.png": 10,
        "masks.zarr/zarr.json": 20,
        "masks.zarr/labels/c/0/0/0": 25,
    }
    assert len({entry.digest for entry in manifest.files}) == 3


def test_a_manifest_of_another_format_is_refused_with_the_versions(run: Run) -> None:
    commit(run, "index-images")
    path = manifest_path(run)
    told = json.loads(run.store.read(path))
    told |= {"format": 2, "ingredients": told["ingredients"] | {"format": 2}}
    told["provenance"]["code"] = "9.8"
    run.store.write(path, json.dumps(told).encode())
    with pytest.raises(RunError, match=r"manifest\.json was written in format 2 by version 9\.8; .* reads format 1"):
        standing(run, "index-images")
    assert run.store.size(path) is not None, "another version's artifact is not ours to take back"


def test_a_changed_provenance_is_told_and_costs_nothing(run: Run) -> None:
    commit(run, "index-images")
    told = json.loads(run.store.read(manifest_path(run)))
    told["provenance"]["host"] = "another"
    run.store.write(manifest_path(run), json.dumps(told).encode())
    (finding,) = verify_run(run)
    assert finding.damage == ()
    assert finding.harmless == ("manifest.json: its provenance is not what was written",)
    assert standing(run, "index-images").state == "done"

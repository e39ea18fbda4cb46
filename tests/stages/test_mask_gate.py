"""Masks that are much worse than the last ones: refused, replaced by those, at whatever point a process is killed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from cyborgs.clustering.bootstrap import GroupMasks
from flows.prepare import prepare_run
from schemas.artifacts import Manifest
from schemas.digests import seal
from schemas.errors import PreemptedError
from schemas.loading import change_config
from schemas.stages import StageRequest
from stages import bootstrap_masks
from stages.context import Context
from stages.execute import run_stage
from stages.interruption import StopRequest
from stages.mask_gate import fallen
from stages.mask_health import MaskHealth, measure_health
from storage import layout
from storage.artifacts import standing
from storage.masks import MaskRow, create_mask_store, write_shard
from storage.photographs import PhotographReader
from storage.run import open_run
from storage.verification import verify_run
from tests.pipeline import assert_same_masks, prepare, run_all
from tests.stages.test_killed_while_writing import ROOT, kills

THREE_CYCLES = ("schedule.epochs=4", "schedule.warmup_epochs=1", "schedule.bootstrap_every_epochs=1")
STRICT = (*THREE_CYCLES, "seed=3", "masks.keep_if_worse=0.9")
"""Of this seed the borders of later masks follow edges less than those of the first."""
SECOND = "bootstrap-masks", 1
MANY = (pytest.mark.slow, pytest.mark.many)


def manifest(url: Path | str, cycle: int) -> Manifest:
    found = standing(open_run(str(url)), "bootstrap-masks", cycle).manifest
    assert found is not None
    return found


def store(url: Path, cycle: int) -> Path:
    return url / str(standing(open_run(str(url)), "bootstrap-masks", cycle).folder) / layout.MASKS


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A finished run whose later masks were refused; tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("gated") / "run"
    prepare(url, tiny_config, photographs, *STRICT)
    run_all(url)
    return url


@pytest.fixture
def before_the_second(gated: Path, tmp_path: Path) -> Path:
    """The same run where the masks of cycle 1 are yet to be made."""
    url = tmp_path / "run"
    shutil.copytree(gated, url, symlinks=True)
    for cycle in ("cycle-001", "cycle-002"):
        shutil.rmtree(url / cycle)
    return url


def assert_kept(url: Path, gated: Path) -> None:
    assert manifest(url, 1).content == manifest(gated, 1).content == manifest(gated, 0).content
    assert manifest(url, 1).summary == manifest(gated, 1).summary
    assert manifest(url, 1).provenance.warnings == manifest(gated, 1).provenance.warnings
    assert_same_masks(store(url, 1), store(gated, 0))
    assert {finding.damage for finding in verify_run(open_run(str(url)))} == {()}
    assert [path for path in (url / "cycle-001").rglob("*") if layout.PARTIAL in path.name] == []


def health(regions: float, agreement: float | None) -> MaskHealth:
    return MaskHealth(float(np.log2(regions)), regions, agreement)


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        (health(5, 1.8), health(5, 1.8), []),
        (health(5, 1.8), health(3.01, 1.41), []),
        (health(5, 1.8), health(2.99, 1.8), ["effective_regions fell from 5.000 to 2.990"]),
        (health(5, 1.8), health(5, 1.39), ["edge_agreement fell from 1.800 to 1.390"]),
        (health(5, 1.8), health(1, None), ["effective_regions fell", "edge_agreement fell from 1.800 to 1.000"]),
        (health(1, None), health(1, None), []),
        (health(1.2, 0.9), health(1.15, 0.5), []),
    ],
)
def test_half_of_what_was_above_one_has_to_be_left(before: MaskHealth, now: MaskHealth, named: list[str]) -> None:
    said = fallen(before, now, share=0.5)
    assert len(said) == len(named)
    assert all(line.startswith(name) for line, name in zip(said, named, strict=True))


@pytest.mark.parametrize(
    ("regions", "clusters", "named"),
    [
        (3.0, 4, []),
        (1.4, 4, ["effective_regions fell from 6.000 to 1.400"]),
        (1.4, 8, ["effective_regions fell from 6.000 to 1.400"]),
        (5.0, 32, []),
        (3.0, 0, ["effective_regions fell from 6.000 to 3.000"]),
    ],
)
def test_fewer_regions_of_fewer_clusters_are_no_worse(regions: float, clusters: int, named: list[str]) -> None:
    """Six effective regions of K = 8 before: 5/7 of what K allows. Masks that do not say K are compared without it."""
    evenness = (regions - 1) / (clusters - 1) if clusters else None
    now = MaskHealth(float(np.log2(regions)), regions, 1.8, evenness)
    assert fallen(MaskHealth(float(np.log2(6)), 6, 1.8, 5 / 7), now, share=0.5) == named


def test_evenness_is_held_against_the_clusters_of_each_photographs_group(
    tmp_path: Path,
) -> None:
    """Halves of a photograph, by K = 2 and K = 3: (2 - 1) / (2 - 1) and (2 - 1) / (3 - 1)."""
    path = tmp_path / layout.MASKS
    labels = np.repeat(np.array([[0], [1]], np.uint8), 2, axis=1)
    create_mask_store(path, rows=2, grid=(2, 2), rows_per_shard=2, attributes={})
    write_shard(path, 0, [MaskRow(labels, (8, 8), 2), MaskRow(labels, (8, 8), 3)])
    context = cast(Context, SimpleNamespace(stop=SimpleNamespace(check=lambda: None)))
    reader = cast(PhotographReader, lambda row: Image.new("RGB", (8, 8)))
    found = measure_health(context, path, reader)
    assert found.effective_regions == pytest.approx(2)
    assert found.evenness == pytest.approx((1 + 1 / 2) / 2)


def test_the_first_masks_stay_and_the_run_goes_on_to_its_end(gated: Path) -> None:
    first, *later = (manifest(gated, cycle) for cycle in range(3))
    assert "kept_from" not in first.summary
    for each in later:
        assert each.content == first.content
        assert each.summary == {**first.summary, "kept_from": 0}
        (said,) = each.provenance.warnings
        before = f"edge_agreement fell from {first.summary['edge_agreement']:.3f} to "
        assert said.startswith(f"bootstrap-masks cycle {each.cycle}: {before}")
        assert said.endswith("the masks of cycle 0 are kept (masks.keep_if_worse 0.9)")
    assert_kept(gated, gated)
    evaluated = gated / str(standing(open_run(str(gated)), "evaluate", 2).folder)
    metrics = json.loads((evaluated / layout.METRICS).read_text())
    assert metrics["mask_agreement"] == 1


def test_masks_of_a_single_region_are_refused(
    before_the_second: Path, gated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that gives every cell the same feature."""
    cluster = bootstrap_masks.bootstrap_group

    def collapsed(*given: Any, **named: Any) -> GroupMasks:
        return GroupMasks([0 * labels for labels in cluster(*given, **named).labels], 1)

    monkeypatch.setattr(bootstrap_masks, "bootstrap_group", collapsed)
    run_stage(StageRequest(run=str(before_the_second), stage="bootstrap-masks", cycle=1))
    (said,) = manifest(before_the_second, 1).provenance.warnings
    assert re.search(r"effective_regions fell from \S+ to 1.000 and edge_agreement fell from \S+ to 1.000: ", said)
    assert_same_masks(store(before_the_second, 1), store(gated, 0))


def test_masks_that_are_not_so_much_worse_are_used(before_the_second: Path, gated: Path) -> None:
    """Another share: the first masks are still those."""
    url = str(before_the_second)
    config = change_config(open_run(url).config, ["masks.keep_if_worse=0.01"])
    run = prepare_run(url, config, name="tiny", update=True)
    assert standing(run, "bootstrap-masks", 0).state == "done"
    run_stage(StageRequest(run=url, stage="bootstrap-masks", cycle=1))
    assert manifest(url, 1).content != manifest(gated, 0).content
    assert manifest(url, 1).provenance.warnings == ()
    assert "kept_from" not in manifest(url, 1).summary


@pytest.mark.parametrize(
    "then",
    [range(60, 64), pytest.param(range(2, 400), marks=MANY)],
    ids=["a few", "every touch"],
)
def test_killed_while_they_are_replaced_it_ends_the_same(gated: Path, before_the_second: Path, then: range) -> None:
    """SIGKILL as the first file is to go, and again and again after that."""
    url, (stage, cycle) = before_the_second, SECOND
    refused = url / "cycle-001/masks" / manifest(gated, 1).key / layout.PARTIAL / "refused"
    assert kills(url, stage, cycle, range(205, 206)) == 1
    assert refused.exists(), "killed too early"
    assert kills(url, stage, cycle, then) >= min(len(then), 150)
    run_stage(StageRequest(run=str(url), stage=stage, cycle=cycle))  # type: ignore[arg-type]
    assert_kept(url, gated)


@pytest.mark.slow
def test_several_processes_keep_them_too(before_the_second: Path, gated: Path) -> None:
    """Two processes; then again from a note and a store that is half replaced."""
    url = before_the_second
    request = StageRequest(run=str(url), stage="bootstrap-masks", cycle=1)
    for attempt in range(2):
        if attempt:
            shutil.rmtree(store(url, 1) / "labels")
            (store(url, 1).parent / layout.MANIFEST).unlink()
            note = {"reasons": ["a fell"], "figures": {}}
            (store(url, 1).parent / layout.PARTIAL).mkdir()
            (store(url, 1).parent / layout.PARTIAL / "refused").write_bytes(seal(json.dumps(note).encode()))
        in_two(request)
        assert manifest(url, 1).content == manifest(gated, 0).content
        assert_same_masks(store(url, 1), store(gated, 0))
    assert "a fell" in manifest(url, 1).provenance.warnings[0]


def in_two(request: StageRequest) -> None:
    """As `stages.workers` starts a stage in two processes."""
    code = "import sys; from stages.workers import run_workers; from schemas.stages import StageRequest\n"
    code += "sys.exit(run_workers(StageRequest.model_validate_json(sys.argv[1]), 2))"
    command = [sys.executable, "-c", code, request.model_dump_json()]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_stopped_half_way_on_s3(
    bucket: str, gated: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop once some files are replaced; what was refused is nowhere on S3 in the end."""
    url = f"s3://{bucket}/run"
    run = prepare(url, tiny_config, photographs, *STRICT)
    for stage, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0), ("train", 0)):
        run_stage(StageRequest(run=url, stage=stage, cycle=cycle))  # type: ignore[arg-type]
    stage, cycle = SECOND
    request = StageRequest(run=url, stage=stage, cycle=cycle)
    folder = standing(open_run(url), stage, cycle).folder
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="what was done is saved"):
        note = f"{folder}/{layout.PARTIAL}/refused"
        replaced = f"{folder}/{layout.MASKS}/"
        asked = property(lambda _: run.store.size(note) is not None and 3 <= len(run.store.list(replaced)) < 10)
        patch.setattr(StopRequest, "asked", asked)
        run_stage(request)
    assert run_stage(request).computed
    assert manifest(url, 1).content == manifest(gated, 0).content
    assert manifest(url, 1).summary == manifest(gated, 1).summary
    assert_same_masks(open_run(url).store.fetch(f"{folder}/{layout.MASKS}"), store(gated, 0))
    (found,) = (each for each in verify_run(open_run(url)) if each.name == "bootstrap-masks cycle 1")
    assert found.damage == ()

"""All stages in this process: what they leave behind, and what runs again when something changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import zarr

from schemas.errors import ConfigError, PreemptedError, RunError
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages import bootstrap_masks, epochs
from stages.execute import run_stage
from stages.interruption import StopRequest
from stages.metrics_log import read_metrics
from storage import layout
from storage.artifacts import Standings, standing
from storage.checkpoints import decode_tensors
from storage.run import open_run
from tests.pipeline import assert_same_results, prepare, run_all

ALL = [
    "index-images",
    "warm-up",
    "bootstrap-masks cycle 0",
    "train cycle 0",
    "evaluate cycle 0",
    "bootstrap-masks cycle 1",
    "train cycle 1",
    "evaluate cycle 1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photographs: Path, tiny_config: Path) -> Path:
    """A run from start to end, undisturbed. Tests read it and leave it as it is."""
    url = tmp_path_factory.mktemp("run") / "undisturbed"
    prepare(url, tiny_config, photographs)
    assert run_all(url) == ALL
    return url


def test_all_done_and_nothing_partial_left(finished: Path) -> None:
    assert [found.state for found in Standings(open_run(str(finished))).all()] == ["done"] * len(ALL)
    leftovers = [p for p in finished.rglob("*") if p.name in (layout.PARTIAL, layout.LEASE) or ".partial" in p.name]
    assert leftovers == []


def test_backbone_loads_into_torchvision(finished: Path) -> None:
    found = standing(open_run(str(finished)), "train", 1)
    tensors, position = decode_tensors((finished / str(found.folder) / layout.MODEL).read_bytes())
    network = torchvision.models.resnet18()
    network.fc = torch.nn.Identity()
    network.load_state_dict(tensors)
    assert position == {"step": 24}


def test_masks_open_with_plain_zarr(finished: Path, photographs: Path) -> None:
    group = zarr.open(str(finished / "cycle-001" / "masks.zarr"), mode="r")
    assert group["labels"].dtype == np.uint8
    assert group["labels"].shape == (18, 12, 12)
    for row, (height, width) in enumerate(group["grid_size"][:]):
        picture = group["labels"][row]
        own = picture[:height, :width]
        assert own.max() < group["clusters"][row] <= 8
        np.testing.assert_array_equal(picture[height:], np.broadcast_to(picture[height - 1], picture[height:].shape))
    assert {tuple(size) for size in group["image_size"][:]} == {(72, 96), (96, 72), (80, 80)}
    assert group.attrs["layer"] == ["layer2.1"]
    assert group.attrs["stride"] == 8
    assert group.attrs["cycle"] == 1
    checkpoint = standing(open_run(str(finished)), "train", 0).manifest
    assert checkpoint is not None
    assert group.attrs["checkpoint"] == checkpoint.content


def test_metrics_log_has_every_step_once(finished: Path) -> None:
    run = open_run(str(finished))
    steps = []
    for stage, cycle in (("warm-up", None), ("train", 0), ("train", 1)):
        found = standing(run, stage, cycle)
        assert found.key is not None
        steps += [line["step"] for line in read_metrics(run, found.step, found.key)]
    assert steps == list(range(1, 25))


def test_vmf_joins_every_second_epoch(finished: Path) -> None:
    run = open_run(str(finished))
    found = standing(run, "train", 0)
    assert found.key is not None
    joined = {line["epoch"]: "vmf_loss" in line for line in read_metrics(run, found.step, found.key)}
    assert joined == {2: True, 3: False}


def test_evaluation_reports_collapse_agreement_and_regions(finished: Path) -> None:
    run = open_run(str(finished))
    first, second = (
        json.loads((finished / str(standing(run, "evaluate", cycle).folder) / layout.METRICS).read_text())
        for cycle in (0, 1)
    )
    assert "mask_agreement" not in first
    assert -0.5 <= second["mask_agreement"] <= 1
    for metrics in (first, second):
        assert metrics["projection_std"] > 0
        assert 1 <= metrics["projection_rank"] <= 16
        assert 1 <= metrics["regions_per_photograph"] <= 8


def test_report_shows_photographs_masks_and_curves(finished: Path) -> None:
    page = (finished / layout.REPORT).read_text()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert [each["picture"][:15] for each in data["pictures"]["photographs"]] == ["data:image/jpeg"] * 2
    assert [len(each["labels"]) for each in data["pictures"]["cycles"]] == [2, 2]
    assert "Mask loss" in [chart["title"] for chart in data["curves"]]


def test_same_config_and_seed_give_equal_results(
    finished: Path, tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    prepare(tmp_path / "again", tiny_config, photographs, "placement.loader_workers=2")
    run_all(tmp_path / "again")
    assert_same_results(finished, tmp_path / "again")


def test_another_seed_gives_other_weights(finished: Path, tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    prepare(tmp_path / "other", tiny_config, photographs, "seed=1")
    for stage in ("index-images", "warm-up"):
        run_stage(StageRequest(run=str(tmp_path / "other"), stage=stage))
    contents = {
        str(standing(open_run(str(url)), "warm-up").manifest and standing(open_run(str(url)), "warm-up").key)
        for url in (finished, tmp_path / "other")
    }
    assert len(contents) == 2


def test_stopped_once_in_every_stage_ends_the_same(
    finished: Path, tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop is asked for at the first safe point of every attempt that starts from nothing."""
    url = tmp_path / "stopped"
    prepare(url, tiny_config, photographs)
    for current in ALL:
        stage, _, cycle = current.partition(" cycle ")
        request = StageRequest(run=str(url), stage=stage, cycle=int(cycle) if cycle else None)
        with monkeypatch.context() as patch, pytest.raises(PreemptedError, match=current):
            patch.setattr(StopRequest, "asked", True)
            run_stage(request)
        assert standing(open_run(str(url)), request.stage, request.cycle).manifest is None
        assert run_stage(request).computed
    assert_same_results(finished, url)


def test_resumes_at_the_step_and_at_the_shard(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done before a stop is not done again."""
    url = tmp_path / "resumed"
    prepare(url, tiny_config, photographs)
    run_stage(StageRequest(run=str(url), stage="index-images"))
    started_at: list[int] = []
    sampler = epochs.StepSampler

    def remember(rows: int, **named: object) -> object:
        started_at.append(int(str(named["first_step"])))
        return sampler(rows, **named)  # type: ignore[arg-type]

    shards: list[int] = []
    write = bootstrap_masks.write_shard

    def count(path: Path, first: int, shard: list[object]) -> None:
        shards.append(first)
        write(path, first, shard)  # type: ignore[arg-type]

    monkeypatch.setattr(epochs, "StepSampler", remember)
    monkeypatch.setattr(bootstrap_masks, "write_shard", count)
    for stage, cycle in (("warm-up", None), ("bootstrap-masks", 0)):
        request = StageRequest(run=str(url), stage=stage, cycle=cycle)
        with monkeypatch.context() as patch, pytest.raises(PreemptedError):
            # Bootstrapping is asked once a shard is written.
            asked = (lambda _: bool(shards)) if stage == "bootstrap-masks" else (lambda _: True)
            patch.setattr(StopRequest, "asked", property(asked))
            run_stage(request)
        assert standing(open_run(str(url)), request.stage, cycle).state == "partial"
        run_stage(request)
    assert started_at == [0, 1]
    assert shards == [0, 16]


def test_deleted_manifest_runs_that_stage_and_nothing_else(
    finished: Path, tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    url = tmp_path / "deleted"
    prepare(url, tiny_config, photographs)
    run_all(url)
    for stage, cycle in (("bootstrap-masks", 0), ("train", 0)):
        found = standing(open_run(str(url)), stage, cycle)
        (url / str(found.folder) / layout.MANIFEST).unlink()
        assert run_all(url) == [found.step.name]
    assert run_all(url) == []
    assert_same_results(finished, url)


def test_damage_is_named_and_repaired(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "damaged"
    run = prepare(url, tiny_config, photographs)
    for stage, cycle in (("index-images", None), ("warm-up", None)):
        run_stage(StageRequest(run=str(url), stage=stage, cycle=cycle))
    found = standing(run, "warm-up")
    model = url / str(found.folder) / layout.MODEL
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    request = StageRequest(run=str(url), stage="bootstrap-masks", cycle=0)
    with pytest.raises(RunError, match=f"{layout.MODEL} is damaged; warm-up is pending now"):
        run_stage(request)
    assert standing(open_run(str(url)), "warm-up").state == "pending"
    leftover = url / str(found.folder) / ".partial-0123"
    leftover.write_bytes(b"half a checkpoint of a killed attempt")
    run_stage(StageRequest(run=str(url), stage="warm-up"))
    assert not leftover.exists()
    assert run_stage(request).computed


def test_force_computes_again_with_equal_content(finished: Path) -> None:
    before = standing(open_run(str(finished)), "bootstrap-masks", 1).manifest
    result = run_stage(StageRequest(run=str(finished), stage="bootstrap-masks", cycle=1, force=True))
    after = standing(open_run(str(finished)), "bootstrap-masks", 1).manifest
    assert result.computed
    assert before is not None
    assert after is not None
    assert before.content == after.content
    assert before.provenance != after.provenance
    assert run_all(finished) == []


def test_stage_without_its_inputs_says_which(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    prepare(tmp_path / "early", tiny_config, photographs)
    with pytest.raises(RunError, match="train cycle 0 of .* needs .*bootstrap-masks cycle 0"):
        run_stage(StageRequest(run=str(tmp_path / "early"), stage="train", cycle=0))


def test_start_from_another_run_and_from_a_state_dict(
    finished: Path, tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    """With W = 0 the state after warm-up is the start: its backbone is the one that was given."""
    found = standing(open_run(str(finished)), "train", 1)
    expected = decode_tensors((finished / str(found.folder) / layout.MODEL).read_bytes())[0]
    network = torchvision.models.resnet18()
    whole = {f"module.{name}": tensor for name, tensor in {**network.state_dict(), **expected}.items()}
    torch.save(whole, tmp_path / "weights.pth")
    for number, start in enumerate((finished, tmp_path / "weights.pth")):
        url = tmp_path / f"start-{number}"
        run = prepare(url, tiny_config, photographs, f"network.start={start}", "schedule.warmup_epochs=0")
        assert find_step(run.config, "warm-up", None).last_epoch == 0
        for stage in ("index-images", "warm-up"):
            run_stage(StageRequest(run=str(url), stage=stage))
        folder = standing(open_run(str(url)), "warm-up").folder
        given = decode_tensors((url / str(folder) / layout.MODEL).read_bytes())[0]
        assert given.keys() == expected.keys()
        assert all(given[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no weights", r"resnet18: (cannot be read|holds objects)"),
        ({"model": torch.nn.Linear(2, 2)}, r"resnet18: holds objects .*model\.state_dict\(\)"),
        ({"epoch": 7}, "resnet18: expected a state dict"),
        ({"conv2d.weight": torch.zeros(2)}, r"resnet18: missing .*unknown \['conv2d"),
    ],
    ids=["garbage", "model", "other", "names"],
)
def test_start_weights_that_do_not_fit_get_one_line(
    content: object, said: str, tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    start = tmp_path / "start.pth"
    if isinstance(content, bytes):
        start.write_bytes(content)
    else:
        torch.save(content, start)
    prepare(tmp_path / "run", tiny_config, photographs, f"network.start={start}")
    run_stage(StageRequest(run=str(tmp_path / "run"), stage="index-images"))
    with pytest.raises(ConfigError, match=f"^network.start {start}, for {said}") as caught:
        run_stage(StageRequest(run=str(tmp_path / "run"), stage="warm-up"))
    assert "\n" not in str(caught.value)


def test_checkpoints_inside_a_segment(tmp_path: Path, photographs: Path, tiny_config: Path) -> None:
    url = tmp_path / "kept"
    prepare(url, tiny_config, photographs, "schedule.checkpoint_epochs=[1,2]")
    for stage in ("index-images", "warm-up"):
        run_stage(StageRequest(run=str(url), stage=stage))
    folder = url / str(standing(open_run(str(url)), "warm-up").folder)
    early, late = (decode_tensors((folder / layout.checkpoint_name(e)).read_bytes())[0] for e in (1, 2))
    final = decode_tensors((folder / layout.MODEL).read_bytes())[0]
    assert not early["conv1.weight"].equal(final["conv1.weight"])
    assert late["conv1.weight"].equal(final["conv1.weight"])

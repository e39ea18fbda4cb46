"""Which network is taken home and draws the masks: the online one, in evaluation mode."""

from pathlib import Path

import numpy as np
import torch

from cyborgs.clustering.bootstrap import bootstrap_group, fit_within
from cyborgs.networks.backbone import Backbone
from schemas.stages import StageRequest
from stages.checkpoint import read_backbone
from stages.execute import run_stage
from storage import layout
from storage.artifacts import Standings, load_artifact
from storage.checkpoints import decode_tensors
from storage.index import photograph_reader, read_photographs
from storage.masks import read_rows
from storage.run import open_run
from tests.pipeline import prepare


def test_weights_that_are_taken_home_are_the_online_networks(undisturbed: Path) -> None:
    for found in Standings(open_run(str(undisturbed))).all():
        if found.step.stage not in ("warm-up", "train"):
            continue
        folder = undisturbed / str(found.folder)
        backbone = read_backbone(folder / layout.MODEL)
        rest, _ = decode_tensors((folder / layout.TRAINING_STATE).read_bytes())
        assert not any(name.startswith("network/online.backbone.") for name in rest)
        target = {name: rest[f"network/target.backbone.{name}"] for name in backbone}
        assert not backbone["conv1.weight"].equal(target["conv1.weight"]), "nothing tells the two apart"
        name = "conv1.weight"  # whose moments the optimiser keeps: those of the network that learns
        moments = [slot for slot in rest if slot.startswith(f"optimizer/online.backbone.{name}/")]
        assert moments


def test_masks_are_those_of_the_network_in_evaluation_mode(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    """The paper's setting: statistics of batch-norm as they were trained."""
    settings = ("schedule.warmup_epochs=1", "masks.refresh_batch_norm=0", "numerics.precision=float32")
    run = prepare(tmp_path / "run", tiny_config, photographs, *settings)
    for name, cycle in (("index-images", None), ("warm-up", None), ("bootstrap-masks", 0)):
        run_stage(StageRequest(run=run.store.url, stage=name, cycle=cycle))  # type: ignore[arg-type]
    standings, masks = Standings(run), run.config.masks
    indexed = read_photographs(load_artifact(run, standings.input("index-images")))
    reader = photograph_reader(indexed, run.record.data)
    backbone = Backbone("resnet18", seed=1)
    backbone.load_state_dict(read_backbone(tmp_path / "run" / str(standings.input("warm-up").folder) / layout.MODEL))
    backbone.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    size = masks.images_per_group
    expected = []
    for group in range(0, len(indexed), size):
        rows = range(group, min(group + size, len(indexed)))
        made = bootstrap_group(
            backbone,
            [fit_within(reader(row), masks.max_side) for row in rows],
            layers=masks.layer,
            clusters=masks.clusters,
            iterations=masks.iterations,
            points_per_cluster=masks.points_per_cluster,
            seed=run.config.seed,
            cycle=0,
            group=group // size,
            bfloat16=False,
        )
        expected += made.labels
    store = tmp_path / "run" / str(standings.input("bootstrap-masks cycle 0").folder) / layout.MASKS
    for (_, row), labels in zip(read_rows(store), expected, strict=True):
        np.testing.assert_array_equal(row.labels, labels)

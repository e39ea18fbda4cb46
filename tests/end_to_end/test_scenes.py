"""What the method is for: after training, clusters of features fit objects better than before."""

from pathlib import Path

import pytest
import torch

from cyborgs.clustering.bootstrap import bootstrap_group, with_fresh_statistics
from cyborgs.networks.backbone import Backbone
from stages.build import build_network
from stages.checkpoint import read_backbone
from storage import layout
from storage.artifacts import standing
from storage.run import open_run
from tests.pipeline import prepare, run_all
from tests.scenes import Scene, make_scenes, mean_best_iou, write_scenes

LAYER = "layer2.1"
SETTINGS = f"""
network: {{architecture: resnet18, region_grid: 4, projector_hidden: 256, projection_dim: 64}}
augmentation: {{crop_size: 64, blur_kernel: 7, blur_sigma: [0.1, 0.6]}}
schedule: {{epochs: 12, warmup_epochs: 4, bootstrap_every_epochs: 6}}
optimization: {{optimizer: adamw, learning_rate: 0.001, batch_size: 32, lr_schedule: cosine, lr_warmup_epochs: 1}}
masks: {{layer: {LAYER}, clusters: [2, 32], max_side: 128, refresh_batch_norm: 8}}
evaluate: {{images: 16, pictures: 0}}
numerics: {{threads: 1, precision: auto}}
"""
"""Two cycles on 192 scenes: 72 steps."""
CLUSTERS = 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.many) for seed in (0, 2))])
def test_masks_of_the_trained_network_fit_objects_better(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenes that neither network has seen, the same K and streams for both, batch-norm statistics estimated alike."""
    config = tmp_path / "scenes.yaml"
    config.write_text(SETTINGS)
    folder = write_scenes(tmp_path / "scenes", make_scenes(192, seed=seed))
    run = prepare(tmp_path / "run", config, folder, f"seed={seed}")
    run_all(tmp_path / "run")
    trained, untrained = (build_network(run.config).online.backbone for _ in range(2))
    last = standing(open_run(str(tmp_path / "run")), "train", 1)
    trained.load_state_dict(read_backbone(tmp_path / "run" / str(last.folder) / layout.MODEL))

    unseen = make_scenes(64, seed=1000 + seed)
    fits = {name: _fit(network, unseen, seed) for name, network in (("untrained", untrained), ("trained", trained))}
    margin = fits["trained"] - fits["untrained"]
    with capsys.disabled():
        print(f"\nseed {seed}: mean best IoU {fits['untrained']:.3f} -> {fits['trained']:.3f}, margin {margin:+.3f}")
    assert margin > 0


def _fit(backbone: Backbone, scenes: list[Scene], seed: int) -> float:
    photographs = [scene.photograph for scene in scenes]
    groups = [photographs[first : first + 16] for first in range(0, len(photographs), 16)]
    backbone.to(memory_format=torch.channels_last).eval()
    backbone = with_fresh_statistics(backbone, groups, [LAYER], bfloat16=False)
    maps = []
    for number, group in enumerate(groups):
        masks = bootstrap_group(
            backbone,
            group,
            layers=[LAYER],
            clusters=(CLUSTERS, CLUSTERS),
            iterations=20,
            points_per_cluster=256,
            seed=seed,
            cycle=0,
            group=number,
            bfloat16=False,
        )
        maps.extend(masks.labels)
    return mean_best_iou(maps, scenes)

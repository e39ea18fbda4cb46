"""What a manifest says of the masks' health: of every source, and beside the content, not in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyborgs.evaluation.mask_health import edge_agreement, effective_regions, size_entropy
from schemas.stages import StageRequest
from stages import mask_health
from stages.execute import run_stage
from storage import layout
from storage.artifacts import load_artifact, standing
from storage.index import read_photographs
from storage.masks import read_rows
from storage.run import open_run
from tests.pipeline import prepare

FIGURES = ("size_entropy", "effective_regions", "edge_agreement")


def summary_of(url: Path) -> tuple[str, dict[str, float | int | str]]:
    manifest = standing(open_run(str(url)), "bootstrap-masks", 0).manifest
    assert manifest is not None
    return manifest.content, manifest.summary


@pytest.mark.parametrize("settings", [(), ("masks.source=grid",), ("masks.source=whole-image",)], ids=str)
def test_means_over_the_first_photographs(
    tmp_path: Path, tiny_config: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    """By hand from the store; neither the figures nor how many photographs they come from is part of the content."""
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, "schedule.warmup_epochs=0", *settings)
    for stage in ("index-images", "warm-up", "bootstrap-masks"):
        run_stage(StageRequest(run=str(url), stage=stage, cycle=0 if stage == "bootstrap-masks" else None))  # type: ignore[arg-type]
    run = open_run(str(url))
    index = read_photographs(load_artifact(run, standing(run, "index-images")))
    masks = [row.labels for _, row in read_rows(url / str(standing(run, "bootstrap-masks", 0).folder) / layout.MASKS)]
    content, said = summary_of(url)
    assert said["size_entropy"] == pytest.approx(np.mean([size_entropy(each) for each in masks]), abs=1e-4)
    assert said["effective_regions"] == pytest.approx(np.mean([effective_regions(each) for each in masks]), abs=1e-4)
    agreements = [
        edge_agreement(Image.open(photographs / each.key), labels) for each, labels in zip(index, masks, strict=True)
    ]
    if settings == ("masks.source=whole-image",):
        assert "edge_agreement" not in said
        assert said["size_entropy"] == 0
        assert said["effective_regions"] == 1
        return
    assert None not in agreements
    assert said["edge_agreement"] == pytest.approx(np.mean(np.array(agreements, float)), abs=1e-4)

    monkeypatch.setattr(mask_health, "SAMPLE", 3)
    run_stage(StageRequest(run=str(url), stage="bootstrap-masks", cycle=0, force=True))
    content_of_three, of_three = summary_of(url)
    assert content_of_three == content
    assert of_three["edge_agreement"] == pytest.approx(np.mean(np.array(agreements[:3], float)), abs=1e-4)
    assert of_three["regions_per_photograph"] == said["regions_per_photograph"]

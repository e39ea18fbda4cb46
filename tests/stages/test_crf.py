"""Masks refined by a dense CRF, through the stages."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from schemas import extras
from schemas.errors import ConfigError
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage import layout
from storage.artifacts import standing
from storage.run import open_run
from tests.pipeline import prepare, run_all

SHORT = ("schedule.epochs=3", "schedule.bootstrap_every_epochs=0", "optimization.lr_warmup_epochs=0")


def test_refined_masks_are_stored_at_image_size_and_trained_on(
    tmp_path: Path, photographs: Path, tiny_config: Path
) -> None:
    """Photographs of 96 pixels are brought down to 64; every map then has a label for each pixel."""
    pytest.importorskip("pydensecrf", reason="dense CRF is an optional extra that needs a C++ compiler")
    prepare(tmp_path / "run", tiny_config, photographs, *SHORT, "masks.crf=true", "masks.max_side=64")
    assert "train cycle 0" in run_all(tmp_path / "run")
    run = open_run(str(tmp_path / "run"))
    masks = standing(run, "bootstrap-masks", 0)
    store = zarr.open_group(str(tmp_path / "run" / str(masks.folder) / layout.MASKS), mode="r")
    sizes = {tuple(size) for size in np.asarray(store["grid_size"][:]).tolist()}
    assert sizes == {(48, 64), (64, 48), (64, 64)}
    assert store.attrs["stride"] == 1
    labels = np.asarray(store["labels"][:])
    assert labels.shape == (18, 64, 64)
    assert len(np.unique(labels)) > 1
    assert labels.max() < 8


def test_a_missing_package_is_named_by_the_first_stage_that_would_work_in_vain(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "run")
    prepare(tmp_path / "run", tiny_config, photographs, *SHORT, "masks.crf=true")
    run_stage(StageRequest(run=url, stage="index-images"))
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"^masks.crf: .*pip install pydensecrf2"):
        run_stage(StageRequest(run=url, stage="warm-up"))

"""Speeds that are read from a stage's own log, and a cache of generated rows."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import start
from benchmarks.runs import standing
from benchmarks.scaling import logged_speed
from schemas.plan import find_step
from stages.metrics_log import MetricsLog
from tests.storage.samples import commit, make_run


def test_speed_is_over_all_steps_but_the_first(tmp_path: Path) -> None:
    """Steps of 30 photographs at 10 and at 30 a second: 60 in 3 + 1 s."""
    run = make_run(tmp_path / "run")
    commit(run, "index-images")
    commit(run, "warm-up")
    commit(run, "bootstrap-masks", 0)
    key = standing(run.store.url, "train", 0).key
    assert key is not None
    log = MetricsLog(run, find_step(run.config, "train", 0), key)
    for step, speed in ((1, 1.0), (2, 10.0), (3, 30.0)):
        log.write(step, {"images_per_second": speed})
    log.close()
    assert logged_speed(run.store.url, batch_size=30) == pytest.approx(15.0)


def test_the_cache_that_is_opened_holds_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "cache"))
    packed = start.pack_generated(100)
    for row, masks in start.generated_rows(100):
        np.testing.assert_array_equal(packed(row), masks.labels)
    assert start.open_and_read(100) == 60 * 80
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 100 * 60 * 80
    with pytest.raises(RuntimeError, match="100 of 101 rows"):
        start.open_and_read(101)

"""The images table, and the stage that writes it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.prepare import prepare_run
from schemas.errors import DataError, RunError
from schemas.plan import find_step
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage import layout
from storage.artifacts import Artifact, load_artifact, standing
from storage.index import (
    Photograph,
    Quarantined,
    content_digest,
    encode_photographs,
    encode_quarantine,
    photograph_reader,
    read_photographs,
    read_quarantine,
)
from storage.run import Run
from tests.storage.samples import commit, encoded, make_photographs, make_run, photograph, small_config

NAMES = [
    "plain.jpg",
    "a, b.jpg",
    'say "cheese".jpg',
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    " spaces .jpg",
    "ünïcode ✓.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "'=1+1.jpg",
    "tab\t\\.jpg",
]


def photographs() -> list[Photograph]:
    return [Photograph(n % 2, name, 10 + n, 20 + n, 1 + n % 8, 1000 + n, f"{n:032x}") for n, name in enumerate(NAMES)]


def stored(tmp_path: Path, **files: bytes) -> Artifact:
    """An artifact that holds these files."""
    run = make_run(tmp_path / "run")
    for name, data in files.items():
        run.store.write(f"index/k/{name}.csv", data)
    return Artifact(run, "index/k", commit(run, "index-images"))  # a folder of its own: only its files matter


def test_the_table_comes_back_whatever_the_names(tmp_path: Path) -> None:
    artifact = stored(tmp_path, photographs=encode_photographs(photographs()))
    assert read_photographs(artifact) == photographs()


def test_the_quarantine_comes_back(tmp_path: Path) -> None:
    rows = [Quarantined(0, name, f"broken, {name!r}") for name in NAMES]
    assert read_quarantine(stored(tmp_path, quarantine=encode_quarantine(rows))) == rows


def test_the_table_is_plain_csv_with_a_row_number() -> None:
    lines = encode_photographs(photographs()[:2]).decode().splitlines()
    assert lines == [
        "row,source,key,height,width,orientation,bytes,digest",
        f"0,0,plain.jpg,10,20,1,1000,{0:032x}",
        f'1,1,"a, b.jpg",11,21,2,1001,{1:032x}',
    ]


@pytest.mark.parametrize(
    "change",
    [{"source": 1}, {"key": "b"}, {"height": 9}, {"width": 9}, {"orientation": 3}, {"bytes": 9}, {"digest": "e"}],
    ids=lambda change: next(iter(change)),
)
def test_the_content_digest_follows_every_field(change: dict[str, Any]) -> None:
    row = Photograph(0, "a", 1, 2, 1, 4, "d")
    assert content_digest([replace(row, **change)]) != content_digest([row])


def test_the_content_digest_follows_rows_and_their_order() -> None:
    rows = photographs()
    assert content_digest(rows) == content_digest(list(rows))
    assert content_digest(rows) != content_digest(rows[::-1])
    assert content_digest(rows) != content_digest(rows[:-1])


def test_the_reader_needs_all_sources(tmp_path: Path) -> None:
    rows = [Photograph(1, "0.png", 6, 8, 1, 1, "d")]
    folder = make_photographs(tmp_path / "a", 1)
    with pytest.raises(DataError, match="made from 2 sources, 1 are given"):
        photograph_reader(rows, (str(folder),))


def prepared(tmp_path: Path, **parts: Any) -> Run:
    config = small_config(**parts)
    return prepare_run(str(tmp_path / "run"), config, name="small", data=(str(tmp_path / "data"),))


def index(run: Run) -> Artifact:
    run_stage(StageRequest(run=run.store.url, stage="index-images"))
    return load_artifact(run, standing(run, "index-images"))


def test_indexing_lists_each_photograph_once_in_a_seeded_order(tmp_path: Path) -> None:
    make_photographs(tmp_path / "data", 12)
    first = read_photographs(index(prepared(tmp_path)))
    assert sorted(p.key for p in first) == sorted(f"{n}.png" for n in range(12))
    assert [p.key for p in first] != sorted(p.key for p in first), "the order is shuffled"
    assert {(p.height, p.width, p.orientation) for p in first} == {(32, 40, 1)}
    reader = photograph_reader(first, (str(tmp_path / "data"),))
    for row, found in enumerate(first):
        expected = photograph(int(found.key.removesuffix(".png")), width=40, height=32)
        np.testing.assert_array_equal(reader(row), expected)


def test_the_order_follows_the_seed_and_nothing_else(tmp_path: Path) -> None:
    make_photographs(tmp_path / "data", 12)
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = small_config(seed=seed)
        run = prepare_run(str(tmp_path / name), config, name=name, data=(str(tmp_path / "data"),))
        orders.append([p.key for p in read_photographs(index(run))])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_broken_photographs_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    data = make_photographs(tmp_path / "data", 8)
    (data / "cut.png").write_bytes(encoded(photograph(width=40, height=40))[:900])
    (data / "text.jpg").write_bytes(b"no photograph")
    (data / "gone.webp").symlink_to("nowhere")
    artifact = index(prepared(tmp_path, index={"max_broken_fraction": 0.5}))
    assert len(read_photographs(artifact)) == 8
    reasons = {row.key: row.reason for row in read_quarantine(artifact)}
    assert set(reasons) == {"cut.png", "text.jpg", "gone.webp"}
    assert "not a photograph" in reasons["text.jpg"]
    assert "No such file" in reasons["gone.webp"]
    assert "None" not in reasons["cut.png"], "the reason is lost"
    assert (artifact.manifest.summary["photographs"], artifact.manifest.summary["quarantined"]) == (8, 3)


def test_too_many_pixels_are_quarantined(tmp_path: Path) -> None:
    data = make_photographs(tmp_path / "data", 8)
    (data / "large.png").write_bytes(encoded(photograph(width=40, height=40)))
    settings = {"max_broken_fraction": 0.5, "max_megapixels": 0.0014}
    (row,) = read_quarantine(index(prepared(tmp_path, index=settings)))
    assert (row.key, "40 x 40 pixels" in row.reason) == ("large.png", True)


def test_too_many_broken_photographs_stop_the_run(tmp_path: Path) -> None:
    data = make_photographs(tmp_path / "data", 9)
    whole = encoded(photograph(width=40, height=40), "jpg")
    (data / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    run = prepared(tmp_path, index={"max_broken_fraction": 0.09})
    with pytest.raises(DataError, match=r"1 of 10 .*index\.max_broken_fraction.*cut\.jpg") as caught:
        index(run)
    assert "\n" not in str(caught.value)
    assert standing(run, "index-images").state != "done"


def test_exactly_the_allowed_share_is_let_pass(tmp_path: Path) -> None:
    data = make_photographs(tmp_path / "data", 9)
    whole = encoded(photograph(width=40, height=40), "jpg")
    (data / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert len(read_photographs(index(prepared(tmp_path, index={"max_broken_fraction": 0.1})))) == 9


def test_photographs_added_after_creation_are_noticed(tmp_path: Path) -> None:
    data = make_photographs(tmp_path / "data", 6)
    run = prepared(tmp_path)
    (data / "new.png").write_bytes(encoded(photograph(9)))
    with pytest.raises(DataError, match="7 now, 6 then"):
        index(run)


def test_a_stage_without_its_input_says_what_is_missing(tmp_path: Path) -> None:
    make_photographs(tmp_path / "data", 6)
    run = prepared(tmp_path)
    with pytest.raises(RunError, match="warm-up of .* needs index-images first"):
        run_stage(StageRequest(run=run.store.url, stage="warm-up"))


def test_the_index_stands_in_its_documented_place(tmp_path: Path) -> None:
    make_photographs(tmp_path / "data", 6)
    artifact = index(prepared(tmp_path))
    assert artifact.folder == layout.artifact_folder(
        find_step(small_config(), "index-images", None), artifact.manifest.key
    )
    assert artifact.folder == f"index/{artifact.manifest.key}"
    assert {entry.path for entry in artifact.manifest.files} == {"photographs.csv", "quarantine.csv"}

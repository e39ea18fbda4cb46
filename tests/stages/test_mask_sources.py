"""Masks that do not come from the encoder, through the stages: what is stored, what is trained on, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import felzenszwalb

from cyborgs.clustering.bootstrap import fit_within
from cyborgs.mask_sources.partitions import grid, numbered
from schemas.errors import ConfigError, DataError
from schemas.loading import load_config
from schemas.plan import find_step, plan
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage import layout
from storage.artifacts import load_artifact, standing
from storage.index import read_photographs
from storage.masks import MaskRow, read_rows
from storage.run import open_run
from tests.pipeline import prepare, run_all

ONCE = ("schedule.epochs=4", "schedule.warmup_epochs=0", "schedule.bootstrap_every_epochs=2")
"""Two cycles of two epochs."""


def masks_of(url: Path, config: Path, photographs: Path, *settings: str) -> list[MaskRow]:
    """The masks that a run makes with these settings."""
    prepare(url, config, photographs, *ONCE, *settings)
    for stage in ("index-images", "bootstrap-masks"):
        run_stage(StageRequest(run=str(url), stage=stage, cycle=0 if stage == "bootstrap-masks" else None))
    run = open_run(str(url))
    store = url / str(standing(run, "bootstrap-masks", 0).folder) / layout.MASKS
    return [row for _, row in read_rows(store)]


def test_grids_by_hand(tmp_path: Path, tiny_config: Path, photographs: Path) -> None:
    whole = masks_of(tmp_path / "whole", tiny_config, photographs, "masks.source=whole-image")
    assert {(row.labels.shape, int(row.labels[0, 0]), row.clusters) for row in whole} == {((1, 1), 0, 1)}
    cells = masks_of(tmp_path / "grid", tiny_config, photographs, "masks.source=grid", "masks.grid_cells=3")
    assert all(np.array_equal(row.labels, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]) for row in cells)
    assert {row.image_size for row in cells} == {(72, 96), (96, 72), (80, 80)}


def test_felzenszwalb_is_scikit_images(tmp_path: Path, tiny_config: Path, photographs: Path) -> None:
    settings = ("masks.source=felzenszwalb", "masks.felzenszwalb_scale=50", "masks.felzenszwalb_min_size=20")
    rows = masks_of(tmp_path / "run", tiny_config, photographs, *settings)
    run = open_run(str(tmp_path / "run"))
    index = read_photographs(load_artifact(run, standing(run, "index-images")))
    for each, row in zip(index, rows, strict=True):
        image = fit_within(Image.open(photographs / each.key).convert("RGB"), 96)
        regions = felzenszwalb(np.asarray(image), scale=50, sigma=0.8, min_size=20)
        assert row.labels.shape == (image.height, image.width)
        # The same partition, whatever its numbers.
        pairs = {(int(a), int(b)) for a, b in zip(regions.ravel(), row.labels.ravel(), strict=True)}
        assert len(pairs) == len(np.unique(regions)) == row.clusters > 1


def test_larger_regions_come_first_and_the_smallest_share_the_last_number() -> None:
    assert numbered(np.array([[7, 7, 3], [7, -1, 3]])).tolist() == [[0, 0, 1], [0, 2, 1]]
    many = numbered(np.arange(400).reshape(20, 20))
    assert len(np.unique(many)) == 256
    assert (many == 255).sum() == 400 - 255
    assert grid(16).max() == 255


def test_a_persons_masks_of_every_kind(tmp_path: Path, tiny_config: Path, coco: Path) -> None:
    """A COCO json, label maps and a mask store of the same photographs give the same regions."""
    json_file = coco / "annotations" / "instances_train2017.json"
    rows = masks_of(
        tmp_path / "json", tiny_config, coco / "train2017", "masks.source=files", f"masks.source_paths={json_file}"
    )
    tree = json.loads(json_file.read_text())
    run = open_run(str(tmp_path / "json"))
    index = read_photographs(load_artifact(run, standing(run, "index-images")))
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for each, row in zip(index, rows, strict=True):
        image = next(image for image in tree["images"] if image["file_name"] == each.key)
        own = [a for a in tree["annotations"] if a["image_id"] == image["id"]]
        assert len(np.unique(row.labels)) == len(own) + 1
        for annotation in own:
            left, top, side, _ = annotation["bbox"]
            inside = row.labels[top + 1 : top + side - 1, left + 1 : left + side - 1]
            assert len(np.unique(inside)) == 1 and inside[0, 0] != row.labels[0, 0]
        if own:
            Image.fromarray(row.labels).save(drawn / f"{Path(each.key).stem}_0.png")
    maps = masks_of(
        tmp_path / "maps", tiny_config, coco / "train2017", "masks.source=files", f"masks.source_paths={drawn}"
    )
    store = tmp_path / "json" / str(standing(run, "bootstrap-masks", 0).folder) / layout.MASKS
    stored = masks_of(
        tmp_path / "store", tiny_config, coco / "train2017", "masks.source=files", f"masks.source_paths={store}"
    )
    for first, second, third in zip(rows, maps, stored, strict=True):
        assert np.array_equal(first.labels, second.labels)
        assert np.array_equal(first.labels, third.labels)
    manifest = standing(open_run(str(tmp_path / "maps")), "bootstrap-masks", 0).manifest
    assert manifest is not None
    assert "2 photographs have no masks there" in manifest.provenance.warnings[0]


def test_a_store_of_another_order_gives_every_photograph_its_own_masks(
    tmp_path: Path, tiny_config: Path, photographs: Path
) -> None:
    """All photographs are of one size, each brighter than the next, and the seed shuffles them."""
    same, others = tmp_path / "same", tmp_path / "others"
    for folder, numbers in ((same, range(6)), (others, range(4, 20))):
        folder.mkdir()
        for number in numbers:
            pixels = np.full((64, 64, 3), 10 * number, np.uint8)
            pixels[: 8 + 8 * (number % 6)] = 255
            Image.fromarray(pixels).save(folder / f"{number}.png")
    regions = ("masks.source=felzenszwalb", "masks.felzenszwalb_scale=50", "masks.felzenszwalb_min_size=20")

    def heights(url: Path, data: Path, *settings: str) -> dict[str, int]:
        """Name of a photograph -> rows of the region that its first pixel is in."""
        rows = masks_of(url, tiny_config, data, *settings)
        run = open_run(str(url))
        index = read_photographs(load_artifact(run, standing(run, "index-images")))
        return {
            each.key: int((row.labels[:, 0] == row.labels[0, 0]).sum()) for each, row in zip(index, rows, strict=True)
        }

    first = heights(tmp_path / "first", same, *regions, "seed=0")
    assert len(set(first.values())) == 6
    store = next((tmp_path / "first/cycle-000").glob("masks/*/masks.zarr"))
    files = ("masks.source=files", "seed=1")
    again = heights(tmp_path / "again", same, *files, f"masks.source_paths={store}")
    assert list(again) != list(first)
    assert again == first
    # By the link to today's masks; of these photographs two are known.
    link = tmp_path / "first/cycle-000/masks.zarr"
    few = heights(tmp_path / "few", others, *files, f"masks.source_paths={link}")
    assert {key: rows for key, rows in few.items() if rows != 64} == {"4.png": first["4.png"], "5.png": first["5.png"]}
    alone = tmp_path / "alone.zarr"
    shutil.copytree(store, alone)
    with pytest.raises(DataError, match=r"alone.zarr: a mask store of another index.*name it inside its run"):
        heights(tmp_path / "copied", same, *files, f"masks.source_paths={alone}")
    assert heights(tmp_path / "equal", same, "masks.source=files", "seed=0", f"masks.source_paths={alone}") == first
    with pytest.raises(DataError, match="no masks of any photograph of the run"):
        heights(tmp_path / "none", photographs, *files, f"masks.source_paths={store}")


def coloured(path: Path, colour: int) -> None:
    """A photograph of 40 x 64 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 40), (colour, 90, 30)).save(path)


def halves(path: Path, at: int) -> None:
    """Two regions, left and right of a column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((40, 64), np.uint8)
    labels[:, at:] = 1
    Image.fromarray(labels).save(path)


def coco_json(path: Path, *names: str, height: int = 40, width: int = 64) -> None:
    """One square in each photograph."""
    square = {"segmentation": [[2, 2, 22, 2, 22, 22, 2, 22]], "category_id": 1, "bbox": [2, 2, 20, 20], "iscrowd": 0}
    tree = {
        "images": [{"id": i, "file_name": name, "height": height, "width": width} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "area": 400, **square} for i in range(len(names))],
        "categories": [{"id": 1, "name": "square"}],
    }
    path.write_text(json.dumps(tree))


def test_names_that_may_be_of_several_photographs_are_refused(tmp_path: Path, tiny_config: Path) -> None:
    data, drawn, file = tmp_path / "data", tmp_path / "drawn", tmp_path / "masks.json"
    for number, name in enumerate(("a/frame1.png", "b/frame1.png", "other.png")):
        coloured(data / name, 100 * number)
    tried = iter(range(100))

    def regions(path: Path) -> list[int]:
        url = tmp_path / f"run{next(tried)}"
        settings = ("optimization.batch_size=2", "masks.source=files", f"masks.source_paths={path}")
        rows = masks_of(url, tiny_config, data, *settings)
        run = open_run(str(url))
        index = read_photographs(load_artifact(run, standing(run, "index-images")))
        # Columns of the first region, by photograph.
        found = {
            each.key: int((row.labels[10] == row.labels[10, 0]).sum()) for each, row in zip(index, rows, strict=True)
        }
        return [found[key] for key in sorted(found) if key != "other.png"]

    halves(drawn / "frame1.png", 16)
    with pytest.raises(DataError, match=r"drawn: \S*frame1.png may be of [ab]/frame1.png or of [ab]/frame1.png; name"):
        regions(drawn)
    halves(drawn / "a/frame1.png", 32)  # one that is found by its path leaves the other to the bare name
    assert regions(drawn) == [32, 16]
    halves(drawn / "b/frame1.png", 48)
    assert regions(drawn) == [32, 48]
    coco_json(file, "frame1.png")
    with pytest.raises(DataError, match=r"frame1.png may be of [ab]/frame1.png or of [ab]/frame1.png; name"):
        regions(file)
    coco_json(file, "c/frame1.png", "d/frame1.png")
    with pytest.raises(DataError, match=r"[ab]/frame1.png may be c/frame1.png or d/frame1.png; name masks by"):
        regions(file)
    coloured(data / "frame1.png", 200)
    # What is one's by its path is no other's by its bare name.
    coco_json(file, "frame1.png")
    assert regions(file) == [64, 64, 44]
    coco_json(file, "a/frame1.png", "b/frame1.png")
    assert regions(file) == [44, 44, 64]


def test_polygons_of_another_size_are_refused(tmp_path: Path, tiny_config: Path) -> None:
    coloured(tmp_path / "data/1.png", 0)
    coloured(tmp_path / "data/2.png", 100)
    coco_json(tmp_path / "masks.json", "1.png", height=64, width=40)
    settings = (
        "optimization.batch_size=2",
        "masks.source=files",
        f"masks.source_paths={tmp_path / 'masks.json'}",
    )
    with pytest.raises(DataError, match=r"1.png is 40 x 64 there, 1.png has 64 x 40 pixels when upright"):
        masks_of(tmp_path / "run", tiny_config, tmp_path / "data", *settings)


def test_what_changed_or_does_not_fit_is_one_line(tmp_path: Path, tiny_config: Path, photographs: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no masks of any photograph of the run"):
        masks_of(tmp_path / "none", tiny_config, photographs, "masks.source=files", f"masks.source_paths={empty}")
    with pytest.raises(ConfigError, match="no such file or folder"):
        masks_of(tmp_path / "gone", tiny_config, photographs, "masks.source=files", "masks.source_paths=/nowhere")
    Image.new("L", (5, 5)).save(empty / "00.png")
    with pytest.raises(ConfigError, match="changed since the run was created"):
        run_stage(StageRequest(run=str(tmp_path / "none"), stage="bootstrap-masks", cycle=0))
    with pytest.raises(ConfigError, match="source files needs a path"):
        load_config("demo", ["masks.source=files"])
    with pytest.raises(ConfigError, match="refines bootstrapped masks alone"):
        load_config("demo", ["masks.source=grid", "masks.crf=true"])


def test_masks_that_are_made_once_serve_every_cycle(tmp_path: Path, tiny_config: Path, photographs: Path) -> None:
    url = tmp_path / "run"
    prepare(url, tiny_config, photographs, *ONCE, "masks.source=grid", "train.vmf_every_epochs=0")
    run_all(url)
    run = open_run(str(url))
    names = [step.name for step in plan(run.config)]
    assert [name for name in names if name.startswith("bootstrap")] == ["bootstrap-masks cycle 0"]
    assert standing(run, "evaluate", 1).state == "done"
    metrics = json.loads((url / str(standing(run, "evaluate", 1).folder) / "metrics.json").read_text())
    assert metrics["regions_per_photograph"] == 25
    with pytest.raises(ConfigError, match="grid masks are made once, in cycle 0"):
        find_step(run.config, "bootstrap-masks", 1)

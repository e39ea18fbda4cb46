"""Samples are functions of their names, and their label grids lie where their pixels do."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from cyborgs.augmentation.crop import Crop
from cyborgs.augmentation.dataset import Batch, Regions, StepSampler, ViewDataset, view_loader
from cyborgs.augmentation.order import SampleName
from tests.cyborgs.augmentation.test_views import BYOL, PLAIN
from tests.cyborgs.references import Labels, majority_grid

HEIGHT, WIDTH = 48, 64


def _labels(row: int) -> Labels:
    return np.random.default_rng(row).integers(0, 6, (3, 4), dtype=np.uint8) * 40


@dataclass(frozen=True)
class Blocks:
    """Photographs in which every cell of the label map is a block of that grey."""

    def __call__(self, row: int) -> Image.Image:
        return Image.fromarray(np.kron(_labels(row), np.ones((16, 16), np.uint8))).convert("RGB")


def _dataset(
    *, plain: bool = False, seed: int = 0, shared: bool = False, regions: bool = True, count: int = 5
) -> ViewDataset:
    crops = {"crop_area": (0.1, 0.6), "crop_ratio": (0.75, 4 / 3), "flip_probability": 0.5}
    return ViewDataset(
        Blocks(),
        replace(PLAIN if plain else BYOL, **crops),  # type: ignore[arg-type]
        seed=seed,
        regions=Regions(_labels, 8, count, "shared" if shared else "independent") if regions else None,
    )


def _same(first: Batch, second: Batch) -> bool:
    return first.keys() == second.keys() and all(tensor.equal(second[key]) for key, tensor in first.items())


def _crop(box: list[float]) -> Crop:
    top, left, height, width, flip = box
    return Crop(round(top * HEIGHT), round(left * WIDTH), round(height * HEIGHT), round(width * WIDTH), flip=bool(flip))


def test_same_name_same_sample() -> None:
    first = _dataset()[SampleName(2, 5, 1)]
    torch.manual_seed(9)
    dataset = _dataset()
    _ = dataset[SampleName(0, 1, 1)]
    assert _same(first, dataset[SampleName(2, 5, 1)])


@pytest.mark.parametrize("name", [SampleName(3, 5, 1), SampleName(2, 6, 1)])
def test_epoch_and_row_each_name_a_sample(name: SampleName) -> None:
    """The crops differ too, so the difference is not the photograph's alone."""
    dataset = _dataset()
    assert not dataset[SampleName(2, 5, 1)]["boxes"].equal(dataset[name]["boxes"])


def test_seed_names_a_sample() -> None:
    assert not _dataset()[SampleName(0, 0, 1)]["boxes"].equal(_dataset(seed=1)[SampleName(0, 0, 1)]["boxes"])


def test_views_have_streams_of_their_own() -> None:
    boxes = _dataset()[SampleName(0, 0, 2)]["boxes"]
    assert len({tuple(box) for box in boxes.tolist()}) == 4


def test_a_second_pair_leaves_the_first_alone() -> None:
    """A separate update takes views of its own; the mask loss sees what it saw without them."""
    one, two = _dataset()[SampleName(1, 3, 1)], _dataset()[SampleName(1, 3, 2)]
    assert len(two["views"]) == 4
    for key in ("views", "boxes"):
        assert two[key][:2].equal(one[key])
    for key in ("row", "labels", "regions"):
        assert two[key].equal(one[key])


def test_each_pair_takes_both_pipelines_in_turn() -> None:
    """Only the second pipeline solarises, and here always: nothing bright is left in every second view."""
    dataset = ViewDataset(Blocks(), replace(PLAIN, solarize_probability=(0.0, 1.0)), seed=0)
    brightest = dataset[SampleName(0, 1, 2)]["views"].flatten(1).amax(dim=1)
    assert (brightest >= 160).tolist() == [True, False, True, False]


def test_regions_leave_the_views_alone() -> None:
    """Warm-up has no masks and draws the same views."""
    with_regions, without = _dataset()[SampleName(0, 2, 1)], _dataset(regions=False)[SampleName(0, 2, 1)]
    assert without.keys() == {"row", "views", "boxes"}
    assert all(with_regions[key].equal(tensor) for key, tensor in without.items())


@pytest.mark.parametrize("row", range(6))
def test_label_grids_are_those_of_the_boxes(row: int) -> None:
    sample = _dataset()[SampleName(0, row, 1)]
    for view in (0, 1):
        expected = majority_grid(
            _labels(row),
            image_size=(HEIGHT, WIDTH),
            crop=_crop(sample["boxes"][view].tolist()),
            size=BYOL.crop_size,
            grid=8,
        )
        np.testing.assert_array_equal(sample["labels"][view].numpy(), expected)


@pytest.mark.parametrize("row", range(6))
def test_labels_lie_where_their_pixels_do(row: int) -> None:
    """A block's grey is its label: wherever a cell of the view shows one grey, that is the cell's label."""
    sample = _dataset(plain=True)[SampleName(0, row, 1)]
    for view in (0, 1):
        cells = sample["views"][view, 0].reshape(8, 4, 8, 4).permute(0, 2, 1, 3).flatten(2).int()
        even = (cells.amax(dim=2) - cells.amin(dim=2)) < 3
        difference = (cells.float().mean(dim=2) - sample["labels"][view]).abs()
        assert even.sum() > 10
        assert float(difference[even].max()) < 5


@pytest.mark.parametrize("shared", [False, True])
def test_regions_are_ids_of_their_view(shared: bool) -> None:
    dataset = _dataset(shared=shared, count=16)
    exclusive = 0
    for row in range(12):
        sample = dataset[SampleName(0, row, 1)]
        present = [set(sample["labels"][view].flatten().tolist()) for view in (0, 1)]
        drawn = [set(sample["regions"][view].tolist()) for view in (0, 1)]
        both = present[0] & present[1]
        for view in (0, 1):
            assert drawn[view] <= present[view]
            if shared and both:
                assert drawn[view] <= both
            exclusive += len(drawn[view] - present[1 - view])
    assert (exclusive > 0) or shared


def test_views_are_sampled_in_streams_of_their_own() -> None:
    """Over the same ids the two views do not draw the same list."""
    dataset = ViewDataset(
        Blocks(),
        replace(PLAIN, crop_size=32),
        seed=0,
        regions=Regions(lambda _: np.arange(12, dtype=np.uint8).reshape(3, 4), 4, 16, "independent"),
    )
    regions = dataset[SampleName(0, 0, 1)]["regions"]
    assert not regions[0].equal(regions[1])


def test_workers_do_not_change_what_is_loaded() -> None:
    """Over an epoch's end, with a pair more in the second epoch."""
    loaded = [
        list(
            view_loader(
                _dataset(),
                StepSampler(7, batch_size=3, seed=0, first_step=1, last_step=4, pairs=lambda epoch: 1 + epoch % 2),
                workers=workers,
                pin_memory=False,
            )
        )
        for workers in (0, 2)
    ]
    assert len(loaded[0]) == 3
    assert [batch["views"].shape[1] for batch in loaded[0]] == [2, 4, 4]
    assert all(_same(alone, parallel) for alone, parallel in zip(*loaded, strict=True))

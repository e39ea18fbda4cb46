"""What benchmarks say they worked on, against arithmetic of its own: no figure comes from doing less."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import bootstrap, kmeans, step, warm_up
from benchmarks.arithmetic import BareStep, Heads
from benchmarks.bootstrap import made
from benchmarks.counting import count_flops, covered, kmeans_bytes, kmeans_flops
from benchmarks.photographs import generate
from benchmarks.runs import artifact, make_run, standing
from benchmarks.training_steps import Setting, make_batch, make_pretraining
from storage import layout

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
"""He et al. 2016, table 1."""


def convolutions(architecture: str, size: int, *, until: tuple[int, int]) -> Iterator[int]:
    """Operations of each convolution on one image, the first one first.

    Args:
        until: layer 1 to 4 and block of it, from 0, that is the last.
    """

    def operations(inputs: int, outputs: int, kernel: int, side: int) -> int:
        return 2 * kernel * kernel * inputs * outputs * side * side

    side = -(-size // 2)
    yield operations(3, 64, 7, side)
    side = -(-side // 2)
    deep = architecture == "resnet50"
    inputs = 64
    for layer, blocks in enumerate(BLOCKS[architecture], start=1):
        width = 32 * 2**layer
        outputs = 4 * width if deep else width
        for block in range(blocks):
            before = side
            if block == 0 and layer > 1:
                side = -(-side // 2)
            if deep:
                yield operations(inputs, width, 1, before)
                yield operations(width, width, 3, side)
                yield operations(width, outputs, 1, side)
            else:
                yield operations(inputs, width, 3, side)
                yield operations(width, width, 3, side)
            if inputs != outputs:
                yield operations(inputs, outputs, 1, side)
            inputs = outputs
            if (layer, block) == until:
                return


def training_operations(architecture: str, size: int, until: tuple[int, int]) -> int:
    """Of an image in both views: forward, gradients of weights and inputs, and forward through the target.

    Nobody asks for the gradient of the photograph.
    """
    each = list(convolutions(architecture, size, until=until))
    return 2 * (4 * sum(each) - each[0])


def test_this_arithmetic_gives_the_published_sizes() -> None:
    """Multiply-adds of torchvision's model cards, of which the classifier is 0.5 and 2 millions."""
    assert sum(convolutions("resnet18", 224, until=(4, 1))) / 2e9 == pytest.approx(1.814, abs=2e-3)
    assert sum(convolutions("resnet50", 224, until=(4, 2))) / 2e9 == pytest.approx(4.089, abs=3e-3)


@pytest.mark.parametrize(
    ("architecture", "layer", "size", "until"),
    [
        ("resnet18", "layer4", 96, (4, 1)),
        ("resnet50", "layer4", 224, (4, 2)),
        ("resnet18", "layer2.1", 96, (2, 1)),
        ("resnet50", "layer2.2", 224, (2, 2)),
    ],
)
def test_the_bare_arithmetic_of_a_backbone(architecture: str, layer: str, size: int, until: tuple[int, int]) -> None:
    images = 3
    bare = BareStep(architecture, layer=layer, images=images, size=size, heads=None, bfloat16=False, device="meta")
    assert count_flops(bare) == images * training_operations(architecture, size, until)


def test_the_bare_arithmetic_of_heads() -> None:
    """Products of projector and predictor three times over, of the target's projector once; for each view."""
    heads = Heads(vectors=32, channels=896, hidden=64, dim=16)
    sizes = {"layer": "layer2.0", "images": 1, "size": 32, "bfloat16": False, "device": "meta"}
    with_heads, without = (count_flops(BareStep("resnet18", heads=each, **sizes)) for each in (heads, None))  # type: ignore[arg-type]
    projector, predictor = 2 * 32 * (896 * 64 + 64 * 16), 2 * 32 * (16 * 64 + 64 * 16)
    assert with_heads - without == 2 * (3 * (projector + predictor) + projector)


@pytest.mark.parametrize(("benchmark", "until"), [(step, (4, 1)), (warm_up, (2, 1))])
def test_a_step_does_all_of_the_bare_arithmetic(benchmark: Any, until: tuple[int, int]) -> None:
    """And little beside it: region pooling and the loss are a few products."""
    config = Setting("small", images=4, rounds=1).load(precision="float32", threads=1)
    pretraining, batch = make_pretraining(config), make_batch(config, seed=0)
    bare = count_flops(benchmark.bare(config))
    taken = count_flops(lambda: benchmark.take(pretraining, batch, config))
    assert bare >= 4 * training_operations("resnet18", 96, until)
    assert bare <= taken < 1.03 * bare
    assert pretraining.step == 1


def test_a_floor_above_what_was_done_is_refused() -> None:
    covered(10, 10)
    with pytest.raises(RuntimeError, match="unequal"):
        covered(9, 10)


def lloyd(points: Tensor, clusters: int, iterations: int) -> Tensor:
    """Spherical k-means as it is written down."""
    centroids = points[:clusters]
    for _ in range(iterations):
        nearest = (points @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        centroids = torch.nn.functional.normalize(sums, dim=1)
    return (points @ centroids.T).argmax(dim=1)


def test_the_arithmetic_of_k_means() -> None:
    points = kmeans.make_points(300, 16)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(300))
    assert kmeans_flops(300, 7, 16, 5) == count_flops(lambda: lloyd(points, 7, 5))
    assert kmeans_bytes(300, 16, 5) == 6 * points.numpy().nbytes
    # The sizes: 70,000 x 512 in 20 iterations; 256 clusters are 385 thousand million operations.
    assert kmeans_flops(70_000, 256, 512, 20) == 21 * 2 * 70_000 * 256 * 512 == 385_351_680_000


def test_k_means_fits_all_points_in_all_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    real = kmeans.spherical_kmeans

    def spy(points: Tensor, clusters: int, **settings: Any) -> Tensor:
        asked.append({"points": len(points), "clusters": clusters, **settings})
        return real(points, clusters, **settings)

    monkeypatch.setattr(kmeans, "spherical_kmeans", spy)
    labels = kmeans.cluster(kmeans.make_points(1001, 16), 10)
    assert labels.shape == (1001,)
    assert len(labels.unique()) == 10
    (call,) = asked
    assert call["points"] == 1001
    assert call["points_per_cluster"] * call["clusters"] >= 1001
    assert call["iterations"] == kmeans.ITERATIONS == 20


def test_masks_are_counted_in_the_committed_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photographs at most 288 px long, a cell for every 8 pixels begun."""
    monkeypatch.setenv("CYBORGS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photographs").mkdir()
    sizes = []
    for number in (0, 2, 3, 5):
        image = generate(number)
        image.save(tmp_path / "photographs" / f"{number}.jpg")
        width, height = image.size
        longer = max(width, height)
        sizes.append((round(height * 288 / longer), round(width * 288 / longer)))
    settings = ["optimization.batch_size=2", "masks.refresh_batch_norm=0", "numerics.threads=1", "masks.clusters=5"]
    url = make_run(tmp_path / "run", "demo", settings, tmp_path / "photographs")
    manifest = bootstrap.bootstrap(url, again=True)
    cells = sum(-(-height // 8) * -(-width // 8) for height, width in sizes)
    assert made(url) == {"photographs": 4, "points": cells, "mean K": 5}
    found = artifact(url, "bootstrap-masks", 0).path(layout.MASKS)
    on_disk = sum(path.stat().st_size for path in found.rglob("*") if path.is_file())
    assert sum(entry.bytes for entry in manifest.files) == on_disk
    assert standing(url, "bootstrap-masks", 0).state == "done"


def test_the_floor_of_bootstrapping_runs_every_photograph(tmp_path: Path) -> None:
    """Two of 96 px once fitted and one of 64, through the layers up to layer2.1."""
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        generate(number).resize((192, 192) if number else (64, 64)).save(file)
    floor = bootstrap.Floor(files, max_side=96, architecture="resnet18", layer="layer2.1", precision="float32")
    expected = sum(sum(convolutions("resnet18", size, until=(2, 1))) for size in (64, 96, 96))
    assert count_flops(floor.forward) == expected


def test_batches_are_as_the_loader_hands_them_over() -> None:
    config = Setting("small", images=3, rounds=1).load(precision="float32", threads=1)
    batch = make_batch(config, seed=1)
    assert batch["views"].shape == (3, 2, 3, 96, 96)
    assert batch["labels"].dtype == torch.uint8
    for image in range(3):
        for view in range(2):
            assert set(batch["regions"][image, view].tolist()) <= set(np.unique(batch["labels"][image, view]).tolist())

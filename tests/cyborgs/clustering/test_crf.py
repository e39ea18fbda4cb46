"""Masks refined by a dense CRF: what it is told, against numpy, and what it does to boundaries."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cyborgs.augmentation.crop import Crop
from cyborgs.clustering import bootstrap
from cyborgs.clustering.bootstrap import GroupMasks, bootstrap_group
from cyborgs.clustering.crf import Crf, refine, unary_energies
from cyborgs.networks.backbone import Backbone
from cyborgs.regions.label_grid import crop_labels
from tests.cyborgs import references
from tests.cyborgs.references import Floats, random_units

pytest.importorskip("pydensecrf", reason="dense CRF is an optional extra that needs a C++ compiler")

Labels = NDArray[np.uint8]
SETTINGS = Crf(concentration=10.0, iterations=10, appearance=(10.0, 60.0, 20.0), smoothness=(3.0, 3.0))
NO_PAIRS = Crf(concentration=10.0, iterations=5, appearance=(0.0, 60.0, 20.0), smoothness=(0.0, 3.0))
SIZE = (48, 64)


def _features(seed: int, *, rows: int = 6, columns: int = 8, clusters: int = 9) -> tuple[Floats, Floats]:
    """Unit features (h, w, D) near the first three of the prototypes (K, D)."""
    random = np.random.default_rng(seed)
    prototypes = random_units(random, clusters, 7)
    near = prototypes[random.integers(0, 3, (rows, columns))]
    return references.unit(near + random.normal(0, 0.1, near.shape)), prototypes


def _energies(features: Floats, prototypes: Floats, *, concentration: float = 10.0) -> tuple[Labels, Floats]:
    present, energies = unary_energies(
        torch.from_numpy(features), torch.from_numpy(prototypes), SIZE, concentration=concentration
    )
    return present, energies.astype(np.float64)


def _bilinear(values: Floats, size: tuple[int, int]) -> Floats:
    """(L, h, w) -> (L, H, W): each pixel centre between the cell centres around it, beyond the outermost the edge."""
    _, h, w = values.shape
    found = np.empty((len(values), *size))
    for y in range(size[0]):
        for x in range(size[1]):
            v = min(max((y + 0.5) * h / size[0] - 0.5, 0), h - 1)
            u = min(max((x + 0.5) * w / size[1] - 0.5, 0), w - 1)
            i, j = min(int(v), h - 2), min(int(u), w - 2)
            a, b = v - i, u - j
            corners = values[:, i : i + 2, j : j + 2]
            found[:, y, x] = (
                corners[:, 0, 0] * (1 - a) * (1 - b)
                + corners[:, 0, 1] * (1 - a) * b
                + corners[:, 1, 0] * a * (1 - b)
                + corners[:, 1, 1] * a * b
            )
    return found


def _photograph(labels: NDArray[np.int64]) -> Image.Image:
    """A colour for each label, with noise."""
    colours = np.array([[40, 60, 160], [190, 170, 60], [60, 160, 70]])[labels]
    noise = np.random.default_rng(1).normal(0, 6, colours.shape)
    return Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("concentration", [1.0, 10.0])
def test_energies_are_the_vmf_posterior_over_the_labels_that_are_present(concentration: float) -> None:
    features, prototypes = _features(0)
    present, energies = _energies(features, prototypes, concentration=concentration)
    assert present.tolist() == sorted(set((features @ prototypes.T).argmax(axis=-1).ravel().tolist())) == [0, 1, 2]
    posterior = references.log_softmax(concentration * features @ prototypes[present].T)
    np.testing.assert_allclose(energies, _bilinear(-posterior.transpose(2, 0, 1), SIZE), rtol=1e-5, atol=1e-6)


def test_prototypes_that_no_cell_is_nearest_to_play_no_part() -> None:
    features, prototypes = _features(1)
    present, energies = _energies(features, prototypes)
    moved = prototypes.copy()
    moved[3:] = -prototypes[0]
    again, same = _energies(features, moved)
    np.testing.assert_array_equal(present, again)
    np.testing.assert_array_equal(energies, same)


def test_without_pairs_the_least_energy_wins() -> None:
    features, prototypes = _features(2)
    present, energies = _energies(features, prototypes)
    photograph = _photograph(np.zeros(SIZE, np.int64))
    found = refine(photograph, present, energies.astype(np.float32), NO_PAIRS)
    np.testing.assert_array_equal(found, present[energies.argmin(axis=0)])
    assert found.dtype == np.uint8


def test_one_label_stays_one_label() -> None:
    energies = np.zeros((1, *SIZE), np.float32)
    found = refine(_photograph(np.zeros(SIZE, np.int64)), np.array([200], np.uint8), energies, SETTINGS)
    assert found.shape == SIZE
    assert (found == 200).all()


def _noisy_scene() -> tuple[NDArray[np.int64], Floats]:
    """A disc on a ground, 96 pixels a side: its true map, and energies from a grid of 12 with a few wrong cells."""
    rows, columns = np.mgrid[0:96, 0:96]
    true = ((rows - 45) ** 2 + (columns - 52) ** 2 < 30**2).astype(np.int64)
    share = true.reshape(12, 8, 12, 8).mean(axis=(1, 3)).clip(0.05, 0.95)
    wrong = np.random.default_rng(0).random((12, 12)) < 0.08
    share[wrong] = 1 - share[wrong]
    return true, _bilinear(-np.log(np.stack([1 - share, share])), (96, 96))


def test_true_boundaries_are_restored() -> None:
    """From cells of 8 pixels and a few mistakes to the boundary in the photograph."""
    true, energies = _noisy_scene()
    labels = np.array([3, 250], np.uint8)
    refined = refine(_photograph(true), labels, energies.astype(np.float32), SETTINGS)
    coarse = labels[energies.argmin(axis=0)]
    right = {name: float((each == labels[true]).mean()) for name, each in (("coarse", coarse), ("refined", refined))}
    assert right["refined"] > 0.99 > 0.96 > right["coarse"]


@pytest.mark.parametrize(
    "settings",
    [
        Crf(concentration=10, iterations=3, appearance=(4.0, 8.0, 25.0), smoothness=(0.0, 1.0)),
        Crf(concentration=10, iterations=3, appearance=(0.0, 1.0, 1.0), smoothness=(4.0, 3.0)),
    ],
)
def test_near_exact_mean_field(settings: Crf) -> None:
    """All pairs of 576 pixels in numpy (equations 2 and 3 of Krähenbühl & Koltun, kernels normalised symmetrically).

    The lattice they filter on is an approximation: some pixels in doubt may differ.
    """
    random = np.random.default_rng(3)
    true = (np.add.outer(np.arange(24), np.arange(24)) > 23).astype(np.int64)
    photograph = _photograph(true)
    share = (0.3 * true + 0.7 * random.random((24, 24)))[None]
    energies = -np.log(np.concatenate([1 - share, share]).clip(0.02))
    found = refine(photograph, np.array([0, 1], np.uint8), energies.astype(np.float32), settings)
    expected = _mean_field(np.asarray(photograph).astype(np.float64), energies, settings)
    assert (found == expected).mean() > 0.97
    assert (energies.argmin(axis=0) == expected).mean() < 0.95, "the pairs change something"


def _mean_field(colours: Floats, energies: Floats, settings: Crf) -> NDArray[np.int64]:
    places = np.stack(np.mgrid[0 : colours.shape[0], 0 : colours.shape[1]], axis=-1).reshape(-1, 2).astype(np.float64)
    far = ((places[:, None] - places) ** 2).sum(axis=-1)
    unlike = ((colours.reshape(-1, 1, 3) - colours.reshape(-1, 3)) ** 2).sum(axis=-1)
    weight, pixels, levels = settings.appearance
    smooth, reach = settings.smoothness
    kernels = [
        (weight, np.exp(-far / (2 * pixels**2) - unlike / (2 * levels**2))),
        (smooth, np.exp(-far / (2 * reach**2))),
    ]
    unary = energies.reshape(len(energies), -1)
    posterior = np.exp(references.log_softmax(-unary.T))
    for _ in range(settings.iterations):
        message = np.zeros_like(posterior)
        for strength, kernel in kernels:
            scale = 1 / np.sqrt(kernel.sum(axis=1))
            message += strength * (scale[:, None] * (kernel @ (scale[:, None] * posterior)))
        posterior = np.exp(references.log_softmax(-unary.T + message))
    return posterior.argmax(axis=1).reshape(energies.shape[1:])


def test_refined_twice_the_same() -> None:
    true, energies = _noisy_scene()
    labels = np.array([0, 1], np.uint8)
    first, again = (refine(_photograph(true), labels, energies.astype(np.float32), SETTINGS) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Image.Image], Backbone]:
    """Two photographs with made-up features."""
    photographs = [_photograph(np.zeros(SIZE, np.int64)), _photograph(np.ones((40, 24), np.int64))]
    features = [torch.from_numpy(_features(5)[0]), torch.from_numpy(_features(6, rows=5, columns=3)[0])]
    monkeypatch.setattr(bootstrap, "photograph_features", lambda *_, **__: features)
    return photographs, Backbone("resnet18", seed=0)


def _masks(group: tuple[list[Image.Image], Backbone], crf: Crf | None) -> GroupMasks:
    photographs, backbone = group
    return bootstrap_group(
        backbone,
        photographs,
        layers=["layer2"],
        clusters=(4, 4),
        iterations=10,
        points_per_cluster=256,
        seed=0,
        cycle=0,
        group=0,
        bfloat16=False,
        crf=crf,
    )


def test_refined_masks_have_the_size_of_their_photographs(group: tuple[list[Image.Image], Backbone]) -> None:
    plain, refined = _masks(group, None), _masks(group, SETTINGS)
    assert [labels.shape for labels in plain.labels] == [(6, 8), (5, 3)]
    assert [labels.shape for labels in refined.labels] == [SIZE, (40, 24)]
    assert refined.clusters == plain.clusters
    for before, after in zip(plain.labels, refined.labels, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before))


def test_without_pairs_cell_centres_keep_their_labels(group: tuple[list[Image.Image], Backbone]) -> None:
    """Read at the centre of each cell, the map at image size is the map on the grid."""
    plain, refined = _masks(group, None), _masks(group, NO_PAIRS)
    for before, after in zip(plain.labels, refined.labels, strict=True):
        centres = after.reshape(len(before), 8, before.shape[1], 8)[:, 3:5, :, 3:5]
        agree = (centres == before[:, None, :, None]).all(axis=(1, 3))
        assert agree.mean() > 0.9


def test_crops_are_read_from_maps_at_image_size() -> None:
    """As many labels as pixels: a view of the whole photograph at its own size has each pixel's own label."""
    labels = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    whole = Crop(0, 0, 60, 60, flip=False)
    np.testing.assert_array_equal(crop_labels(labels, image_size=(60, 60), crop=whole, size=60, grid=60), labels)

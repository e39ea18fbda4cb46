"""`peer`: the stage `bootstrap-masks` against the recipe of the reference implementation, in the same process."""

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from benchmarks.bootstrap import decode, made, settings
from benchmarks.figure import Bench, Figure
from benchmarks.photographs import take_photographs
from benchmarks.runs import artifact, bootstrap, indexed, make_run
from benchmarks.timing import Contender, Summary, in_turns, quotients
from cyborgs.augmentation.pixels import normalise
from storage import layout
from storage.masks import read_rows

TARGET = 4.0
_GROUP = 16
_ITERATIONS = 20


def measure(bench: Bench) -> list[Figure]:
    """On the same photographs in the same groups of 16, with the same K."""
    photographs = take_photographs(bench.work, bench.pick(48, 8))
    return [_measure(bench, photographs.folder, photographs.kind, precision) for precision in bench.precisions]


def _measure(bench: Bench, folder: Path, kind: str, precision: str) -> Figure:
    url = make_run(bench.work / f"peer-{precision}", "coco", settings(precision, bench.threads), folder)
    bootstrap(url, again=False)
    files, drawn = groups_of(url, folder)
    peer = Peer()
    rounds = bench.pick(3, 1)
    out = bench.work / "peer-masks"
    out.mkdir(exist_ok=True)
    ours, theirs = in_turns(
        [
            Contender(lambda: bootstrap(url, again=True)),
            Contender(lambda: peer.masks(files, drawn, out), before=lambda: torch.use_deterministic_algorithms(False)),
        ],
        rounds=rounds,
        warm_up=bench.pick(1, 0),
    )
    ratio = Summary.of(quotients(theirs, ours))
    return Figure(
        f"peer against {precision}",
        ratio.median,
        TARGET,
        "higher",
        "x",
        {**made(url), "masks of the peer": len(list(out.glob("*.npy")))},
        (ratio.low, ratio.high),
        rounds,
        {
            "ours s/photograph": Summary.of(ours).median / len(files),
            "peer s/photograph": Summary.of(theirs).median / len(files),
        },
        f"{kind}; the peer computes in float32",
    )


def groups_of(url: str, folder: Path) -> tuple[list[Path], list[int]]:
    """The run's photographs in its order, and the K that each group of 16 was clustered with."""
    table, _ = indexed(url)
    rows = [row for _, row in read_rows(artifact(url, "bootstrap-masks", 0).path(layout.MASKS))]
    return [folder / row.key for row in table], [row.clusters for row in rows[::_GROUP]]


class Peer:
    """The whole network forward, one photograph at a time; k-means on all points; masks of full size as int64."""

    def __init__(self) -> None:
        self._network = torchvision.models.resnet50(weights=None).eval()
        self._found: list[Tensor] = []
        self._network.layer2[2].register_forward_hook(lambda _module, _inputs, output: self._found.append(output))

    @torch.no_grad()
    def masks(self, files: Sequence[Path], clusters: Sequence[int], out: Path) -> None:
        """Write a mask for every photograph.

        Args:
            clusters: K of each group of 16.
        """
        for number, count in enumerate(clusters):
            self._group(files[number * _GROUP : (number + 1) * _GROUP], count, out)

    def _group(self, files: Sequence[Path], clusters: int, out: Path) -> None:
        grids: list[NDArray[np.float32]] = []
        sizes: list[tuple[int, int]] = []
        for file in files:
            image = decode(file)
            sizes.append((image.height, image.width))
            self._network(normalise(F.pil_to_tensor(image)[None]).contiguous())
            (features,) = self._found
            self._found.clear()
            unit = torch.nn.functional.normalize(features, dim=1)[0].permute(1, 2, 0)
            grids.append(unit.contiguous().numpy())
        points = np.concatenate([grid.reshape(-1, grid.shape[2]) for grid in grids])
        kmeans = faiss.Kmeans(
            int(points.shape[1]), clusters, niter=_ITERATIONS, spherical=True, max_points_per_centroid=len(points)
        )
        kmeans.train(points)
        labels = kmeans.index.search(points, 1)[1][:, 0]
        first = 0
        for file, grid, (height, width) in zip(files, grids, sizes, strict=True):
            rows, columns = grid.shape[0], grid.shape[1]
            small = labels[first : first + rows * columns].reshape(rows, columns)
            first += rows * columns
            full = zoom(small, (height / rows, width / columns), order=0)
            np.save(out / f"{file.stem}.npy", full.astype(np.int64))

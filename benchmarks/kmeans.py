"""`k-means`: spherical k-means over the time that the machine needs for its products, or for reading its points."""

import numpy as np
import torch
from torch import Tensor

from benchmarks.counting import FLOAT32_BYTES, kmeans_bytes, kmeans_flops
from benchmarks.figure import Bench, Figure
from benchmarks.machine import l3_bytes
from benchmarks.timing import Contender, Summary, in_turns
from cyborgs.clustering.spherical_kmeans import spherical_kmeans
from cyborgs.losses.vmf import assign
from cyborgs.random_streams import stream
from schemas.loading import load_config
from stages.device import apply_numerics

TARGET = 1.5
CLUSTERS = (8, 64, 256)
DIMENSIONS, ITERATIONS = 512, 20
_MATRIX = 4096
_TIMES_L3 = 4


def measure(bench: Bench) -> list[Figure]:
    """All points are fitted, and every one is assigned at the end."""
    apply_numerics(load_config("coco", [f"numerics.threads={bench.threads}"]))
    points = make_points(bench.pick(70_000, 10_000), DIMENSIONS)
    return [_measure(bench, points, clusters) for clusters in CLUSTERS]


def make_points(count: int, dimensions: int) -> Tensor:
    """Unit vectors around 100 centres, (P, D)."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((100, dimensions), np.float32)
    noise = random.standard_normal((count, dimensions), np.float32)
    points = torch.from_numpy(centres[random.integers(0, len(centres), count)] + noise)
    return torch.nn.functional.normalize(points, dim=1)


def cluster(points: Tensor, clusters: int) -> Tensor:
    """Prototypes of all points, and each point's nearest."""
    prototypes = spherical_kmeans(
        points,
        clusters,
        random=stream("benchmark", clusters),
        iterations=ITERATIONS,
        points_per_cluster=-(-len(points) // clusters),
    )
    return assign(points, prototypes)


def _measure(bench: Bench, points: Tensor, clusters: int) -> Figure:
    count, dimensions = points.shape
    flops = kmeans_flops(count, clusters, dimensions, ITERATIONS)
    moved = kmeans_bytes(count, dimensions, ITERATIONS)
    factor, other = torch.randn(_MATRIX, _MATRIX), torch.randn(_MATRIX, _MATRIX)
    array = torch.ones(_TIMES_L3 * l3_bytes() // FLOAT32_BYTES)
    rounds = bench.pick(5, 1)
    seconds, products, readings = in_turns(
        [
            Contender(lambda: cluster(points, clusters)),
            Contender(lambda: factor @ other),
            Contender(array.sum),
        ],
        rounds=rounds,
        warm_up=bench.pick(1, 0),
    )
    rates = [2 * _MATRIX**3 / taken for taken in products]
    bandwidths = [array.numel() * FLOAT32_BYTES / taken for taken in readings]
    floors = [max(flops / rate, moved / bandwidth) for rate, bandwidth in zip(rates, bandwidths, strict=True)]
    ratio = Summary.of([taken / floor for taken, floor in zip(seconds, floors, strict=True)])
    rate, bandwidth = Summary.of(rates).median, Summary.of(bandwidths).median
    return Figure(
        f"k-means K={clusters}",
        ratio.median,
        TARGET,
        "lower",
        "x",
        {"points": count, "dimensions": dimensions, "iterations": ITERATIONS, "GFLOP": flops / 1e9, "GB": moved / 1e9},
        (ratio.low, ratio.high),
        rounds,
        {
            "k-means s": Summary.of(seconds).median,
            "floor s": Summary.of(floors).median,
            "products GFLOP/s": rate / 1e9,
            "reading GB/s": bandwidth / 1e9,
        },
        f"floor set by {'products' if flops / rate > moved / bandwidth else 'reading'}; "
        f"reading measured on {array.numel() * FLOAT32_BYTES / 1e9:.1f} GB",
    )

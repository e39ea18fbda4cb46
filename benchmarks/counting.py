"""How much arithmetic a computation is: counted while it runs, or by formula. One multiply-add is two operations."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode

FLOAT32_BYTES = 4


def count_flops(run: Callable[[], object]) -> int:
    """Operations of the convolutions and matrix products that torch runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def covered(pipeline: int, floor: int) -> None:
    """What is compared with a floor has to do all of the floor's arithmetic.

    Raises:
        RuntimeError: it does less.
    """
    if pipeline < floor:
        raise RuntimeError(f"the pipeline ran {pipeline} operations, its floor {floor}: this compares unequal work")


def kmeans_flops(points: int, clusters: int, dimensions: int, iterations: int) -> int:
    """Products of all points with all centroids, in every iteration and once more for the final assignment."""
    return (iterations + 1) * 2 * points * clusters * dimensions


def kmeans_bytes(points: int, dimensions: int, iterations: int) -> int:
    """All float32 points, read once an iteration and once more for the final assignment."""
    return (iterations + 1) * points * dimensions * FLOAT32_BYTES

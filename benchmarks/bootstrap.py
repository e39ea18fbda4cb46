"""`bootstrap`: the stage `bootstrap-masks`, over decoding its photographs and running the needed layers on them."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from benchmarks.arithmetic import layers_until
from benchmarks.counting import count_flops
from benchmarks.figure import Bench, Figure, cores
from benchmarks.photographs import Photographs, take_photographs
from benchmarks.runs import artifact, bootstrap, make_run
from benchmarks.timing import Contender, Summary, in_turns
from cyborgs.augmentation.pixels import normalise
from cyborgs.clustering.bootstrap import fit_within
from storage import layout
from storage.masks import read_rows
from storage.run import open_run

TARGET = 0.6
_LARGEST_BATCH = 16


def measure(bench: Bench) -> list[Figure]:
    """ResNet-50 up to layer2.2, longer side 640, K ~ U{2..256}."""
    return [_measure(bench, precision) for precision in bench.precisions]


def bootstrapped_run(bench: Bench, photographs: Photographs, precision: str) -> str:
    """The run that is measured, ready for its masks; its URL."""
    place = bench.work / f"bootstrap-{precision}"
    return make_run(place, config_name(bench), settings(precision, bench.threads), photographs.folder)


def config_name(bench: Bench) -> str:
    """The paper's setting; quick ones have ResNet-18 up to layer2.1, longer side 288, K ~ U{2..32}."""
    return "small" if bench.quick else "coco"


def photographs_of(bench: Bench) -> int:
    """How many are bootstrapped; groups have 16."""
    return bench.pick(128, 32)


def settings(precision: str, threads: int) -> list[str]:
    """For one process, with the statistics that the weights come with."""
    return ["numerics.world_size=1", f"numerics.threads={threads}", f"numerics.precision={precision}",
            "optimization.batch_size=8", "masks.refresh_batch_norm=0"]  # fmt: skip


def _measure(bench: Bench, precision: str) -> Figure:
    photographs = take_photographs(bench.work, photographs_of(bench))
    files = photographs.files()
    url = bootstrapped_run(bench, photographs, precision)
    config = open_run(url).config
    (layer,) = config.masks.layer
    floor = Floor(
        files,
        max_side=config.masks.max_side,
        architecture=config.network.architecture,
        layer=layer,
        precision=precision,
    )
    flops = count_flops(floor.forward)
    rounds = bench.pick(3, 1)
    ours, decoding, layers = in_turns(
        [
            Contender(lambda: bootstrap(url, again=True)),
            Contender(lambda: decode_all(files)),
            Contender(floor.forward, before=lambda: torch.use_deterministic_algorithms(False)),
        ],
        rounds=rounds,
        warm_up=bench.pick(1, 0),
    )
    done = made(url)
    if done["photographs"] != len(files):
        raise RuntimeError(f"{done['photographs']:g} of {len(files)} photographs have masks")
    ratio = Summary.of([(d + f) / o for o, d, f in zip(ours, decoding, layers, strict=True)])
    seconds = Summary.of(ours).median
    return Figure(
        f"bootstrap {precision}",
        ratio.median,
        TARGET,
        "higher",
        "x",
        {**done, "layers GFLOP": flops / 1e9},
        (ratio.low, ratio.high),
        rounds,
        {
            "photographs/s": len(files) / seconds,
            "stage s": seconds,
            "decode s": Summary.of(decoding).median,
            "layers s": Summary.of(layers).median,
        },
        f"{photographs.kind}; {config.network.architecture} to {layer}, longer side {config.masks.max_side}",
    )


def made(url: str) -> dict[str, float]:
    """What stands in the committed store: photographs, cells that were clustered, mean K."""
    rows = [row for _, row in read_rows(artifact(url, "bootstrap-masks", 0).path(layout.MASKS))]
    cells = sum(row.labels.size for row in rows)
    mean = sum(row.clusters for row in rows) / len(rows)
    return {"photographs": len(rows), "points": cells, "mean K": round(mean, 1)}


def decode_all(files: Sequence[Path]) -> None:
    """Every photograph to RGB, in as many threads as there are cores."""
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(decode, files):
            pass


def decode(file: Path) -> Image.Image:
    """A JPEG to RGB pixels."""
    with Image.open(file) as image:
        return image.convert("RGB")


class Floor:
    """The layers that are needed, on photographs that wait in memory as the network takes them."""

    def __init__(self, files: Sequence[Path], *, max_side: int, architecture: str, layer: str, precision: str) -> None:
        self._layers: nn.Module = layers_until(architecture, layer).eval().to(memory_format=torch.channels_last)
        self._bfloat16 = precision == "bfloat16"
        by_size: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for file in files:
            image = fit_within(decode(file), max_side)
            by_size[image.size].append(F.pil_to_tensor(image))
        self._batches = [
            normalise(torch.stack(same[first : first + _LARGEST_BATCH]))
            for same in by_size.values()
            for first in range(0, len(same), _LARGEST_BATCH)
        ]

    @torch.no_grad()
    def forward(self) -> None:
        """All photographs, those of one size together."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            for batch in self._batches:
                self._layers(batch)

"""The table of docs/evaluation.md: random weights and `small` runs over several seeds, on the sample data.

    CYBORGS_SAMPLE_DATA=DIR python -m tests.evaluation_table OUT_DIR [SEEDS]

The runs see coco-mini's train2017 and BSDS' train photographs, none that is measured. All computes in one thread, so
that a busy machine gives the same. What is there in OUT_DIR is kept: the same command goes on where it stopped.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.convert_coco import convert

PROTOCOLS = {
    "mask-quality bsds": ["split=val", "clusters=8", "max_side=288", "refresh_batch_norm=20"],
    "mask-quality coco": ["split=val2017", "clusters=8", "max_side=288", "refresh_batch_norm=20"],
    "region-linear coco": ["max_side=288"],
    "voc07-svm voc": ["resize=128", "crop=112"],
    "cocostuff-linear label-maps": ["max_side=288", "epochs=5"],
    "knn image-folder": ["resize=128", "crop=112"],
}
"""Protocol and data -> settings: sizes that a `small` run has seen, batch-norm statistics as it makes its masks."""


def main(out: Path, seeds: int) -> None:
    """Train, measure, and print the comparison as Markdown."""
    samples = Path(os.environ["CYBORGS_SAMPLE_DATA"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    convert(samples / "coco-mini", out / "data")
    folders = {"bsds": samples / "bsds500", "coco": samples / "coco-mini"}
    for name in ("voc", "label-maps", "image-folder"):
        folders[name] = out / "data" / name
    results: dict[str, list[Path]] = {name: [] for name in PROTOCOLS}
    for seed in range(seeds):
        for weights in ("random", "small"):
            for name in PROTOCOLS:
                results[name].append(out / f"{name.replace(' ', '-')}-{weights}-{seed}.json")
    for weights in ("random", "small"):
        for seed in range(seeds):
            source = train(samples, out, seed) if weights == "small" else "random"
            for name, settings in PROTOCOLS.items():
                file = out / f"{name.replace(' ', '-')}-{weights}-{seed}.json"
                if not file.exists():
                    protocol, data = name.split()
                    own = [f"seed={seed}", "architecture=resnet18"] if weights == "random" else []
                    run("evaluate", protocol, "--weights", source, "--data", str(folders[data]), "--out", str(file),
                        *(f"--set={each}" for each in [*settings, *own, "threads=1"]))  # fmt: skip
    run("compare", *(str(file) for files in results.values() for file in files), "--format", "markdown")


def train(samples: Path, out: Path, seed: int) -> str:
    """A run of configs/small.yaml; where it is kept."""
    place = str(out / f"run-{seed}")
    data = [str(samples / "coco-mini" / "train2017"), str(samples / "bsds500" / "images" / "train")]
    run("run", "small", "--data", *data, "--set", f"seed={seed}", "numerics.threads=1", "--run", place)
    return place


def run(*arguments: str) -> None:
    """One `cyborgs` command."""
    subprocess.run([str(Path(sys.executable).with_name("cyborgs")), *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)

"""Small things that several tests need: photographs, a config, a run with committed artifacts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schemas.artifacts import Manifest, RunRecord, result_digest
from schemas.config import RunConfig
from schemas.plan import find_step, ingredients
from schemas.stages import StageName
from storage.artifacts import Standings, commit_artifact
from storage.provenance import provenance
from storage.run import Run, create_run

SMALL: dict[str, Any] = {
    "network": {"architecture": "resnet18"},
    "masks": {"layer": "layer2.1"},
    "schedule": {"epochs": 3, "warmup_epochs": 1, "bootstrap_every_epochs": 2},
    "optimization": {"batch_size": 4, "lr_warmup_epochs": 1},
}
"""Two cycles: masks before epochs 1 and 2."""


def small_config(**parts: Any) -> RunConfig:
    """The small config with other settings laid over it, such as `optimization={"batch_size": 8}`."""
    tree = dict(SMALL)
    for name, value in parts.items():
        tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
    return RunConfig.model_validate(tree)


def photograph(number: int = 0, *, width: int = 8, height: int = 6) -> Image.Image:
    """Noise that is different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, suffix: str = "png", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return buffer.getvalue()


def make_photographs(folder: Path, count: int) -> Path:
    """`count` PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encoded(photograph(number, width=40, height=32)))
    return folder


def make_record(config: RunConfig | None = None, **changes: Any) -> RunRecord:
    """What `prepare_run` would write, without looking at photographs."""
    config = config or small_config()
    fields: dict[str, Any] = {
        "name": "small",
        "config": config,
        "config_digest": result_digest(config),
        "data": ("photographs",),
        "pins": {"photographs": "0" * 32},
        "photographs": 6,
        "created": provenance(),
    }
    return RunRecord(**(fields | changes))


def make_run(root: Path, config: RunConfig | None = None, **changes: Any) -> Run:
    """A run on disk without artifacts."""
    return create_run(str(root), make_record(config, **changes))


def commit(
    run: Run,
    stage: StageName,
    cycle: int | None = None,
    *,
    content: str = "c",
    data: bytes = b"data",
    name: str = "file.bin",
) -> Manifest:
    """Commit an artifact of one file at the key that the step has now."""
    step = find_step(run.config, stage, cycle)
    standings = Standings(run)
    found = standings.of(step)
    assert found.key is not None and found.folder is not None
    run.store.write(f"{found.folder}/{name}", data)
    inputs = {role: manifest.content for role, name in step.inputs if (manifest := standings.input(name).manifest)}
    return commit_artifact(
        run,
        step,
        key=found.key,
        parts=ingredients(run.config, step, inputs=inputs, pins=run.record.pins),
        content=content,
        summary={"files": 1},
        made_by=provenance(),
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes: nothing was written if it stays the same."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

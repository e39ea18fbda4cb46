"""The card beside an export: what it is, how it was made, how to load it, and what was measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from cyborgs.augmentation.pixels import MEAN, STD
from schemas.config import RunConfig
from schemas.loading import flatten
from schemas.results import Encoder, ProtocolResult, SkippedProtocol
from stages.layouts import BASIC, groups_and_width
from storage import layout
from storage.artifacts import Standing, Standings
from storage.run import Run


def model_card(
    run: Run,
    found: Standing,
    *,
    form: str,
    file: Path,
    encoder: Encoder,
    digest: str,
    check: str,
    results: Sequence[ProtocolResult],
) -> str:
    """The card as Markdown.

    Args:
        found: the step whose weights were exported.
        digest: of the tensors.
        check: how it is known that the library reads the file.
        results: of protocols that measured these weights, beside those of the run itself.
    """
    assert found.manifest is not None
    config, record = run.config, run.record
    index = Standings(run).input("index-images").manifest
    photographs = index.content if index is not None else "unknown"
    lines = [
        f"# {file.name}",
        "",
        f"A {config.network.architecture} backbone without classifier, pretrained without labels by CYBORGS "
        "(*Contrastively Bootstrapping Object Representations by Grounding in Segmentation*, ECCV 2022).",
        "",
        f"- **Made by**: {found.step.name} of the run `{Path(run.store.url).name}` (config `{record.name}`), "
        f"{encoder} encoder, after {found.step.last_epoch} of {config.schedule.epochs} epochs, seed {config.seed}",
        f"- **Weights**: digest `{digest}`; artifact `{found.key}`, code {found.manifest.provenance.code}",
        f"- **Data**: {record.photographs} photographs, index digest `{photographs}`",
        f"- **Config**: digest `{record.config_digest}`; what differs from the paper's is below",
        f"- **Normalisation**: RGB, values 0 to 1, mean {list(MEAN)}, standard deviation {list(STD)}",
        "- **Channel order**: RGB in, as torchvision has it; tensors are (out, in, height, width)",
        f"- **Checked**: {check}",
        "",
        "## Loading",
        "",
        _loading(form, file.name, config.network.architecture),
        "",
        "## Evaluation",
        "",
        *_evaluation(run, found, encoder, digest, results),
        "",
        "## Config",
        "",
        "```yaml",
        yaml.safe_dump(_changed(config), sort_keys=True).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _changed(config: RunConfig) -> dict[str, object]:
    """Settings that define the result and differ from the defaults, which are the paper's."""
    defaults = flatten(RunConfig())
    return {
        name: value
        for name, value in flatten(config).items()
        # Where labelled photographs are says nothing of the weights, and much of a machine.
        if value != defaults[name] and not name.startswith(("placement.", "evaluate.protocols"))
    }


def _evaluation(
    run: Run, found: Standing, encoder: Encoder, digest: str, results: Sequence[ProtocolResult]
) -> list[str]:
    """What the run says of that cycle without labels, and what protocols say of these very weights."""
    lines: list[str] = []
    measured = list(results)
    for other in Standings(run).all():
        if other.step.stage == "evaluate" and other.step.cycle == found.step.cycle and other.state == "done":
            own = [
                ProtocolResult.model_validate_json(text)
                for path in run.store.list(f"{other.folder}/{layout.PROTOCOLS}")
                if SkippedProtocol.read(text := run.store.read(path)) is None
            ]
            metrics = json.loads(run.store.read(f"{other.folder}/{layout.METRICS}"))
            labelled = {f"{each.protocol}_{figure}" for each in own for figure in each.figures}
            whose = "" if encoder == "online" else ", which looks at the online encoder and not at this one"
            lines += [f"Without labels, by the run itself{whose}:", ""]
            lines += _table({name: value for name, value in metrics.items() if name not in labelled})
            measured += [each for each in own if each.weights.digest == digest]
    for result in measured:
        quick = " with quick settings" if result.smoke else ""
        photographs = ", ".join(f"{count} of {split}" for split, count in result.data.photographs.items())
        lines += ["", f"`{result.protocol}`{quick} on `{Path(result.data.path).name}` ({photographs} photographs):", ""]
        lines += _table(result.figures)
    return lines or ["None was made."]


def _table(figures: Mapping[str, object]) -> list[str]:
    return ["| figure | value |", "|---|---|", *(f"| {name.replace('_', ' ')} | {v} |" for name, v in figures.items())]


def _loading(form: str, file: str, architecture: str) -> str:
    groups, width = groups_and_width(architecture)
    depth = "".join(c for c in architecture.split("_32x")[0].split("_64x")[0].split("_2")[0] if c.isdigit())
    read = "load_file" if file.endswith(".safetensors") else "torch.load"
    imports = "from safetensors.torch import load_file" if read == "load_file" else "import torch"
    mean, std = [round(255 * value, 3) for value in MEAN], [round(255 * value, 3) for value in STD]
    if form == "timm":
        code = f'network = timm.create_model("{architecture}", num_classes=0, checkpoint_path="{file}")'
        return f"```python\nimport timm\n\n{code}\n```"
    if form == "detectron2":
        lines = [
            "MODEL:",
            f'  WEIGHTS: "{file}"',
            f"  PIXEL_MEAN: {mean}",
            f"  PIXEL_STD: {std}",
            "  RESNETS:",
            f"    DEPTH: {depth}",
            "    STRIDE_IN_1X1: False",
            *([f"    NUM_GROUPS: {groups}", f"    WIDTH_PER_GROUP: {width}"] if architecture not in BASIC else []),
            *(["    RES2_OUT_CHANNELS: 64"] if architecture in BASIC else []),
            "INPUT:",
            '  FORMAT: "RGB"',
        ]
        return "\n".join(["```yaml", *lines, "```", "", "Batch-norm: `NORM: SyncBN` or `FrozenBN`, as you like."])
    if form == "mmdet":
        kind = (
            f"type='ResNeXt', depth={depth}, groups={groups}, base_width={width}"
            if groups > 1
            else (f"type='ResNet', depth={depth}")
        )
        lines = [
            "model = dict(",
            f"    data_preprocessor=dict(type='DetDataPreprocessor', mean={mean}, std={std}, bgr_to_rgb=True),",
            f"    backbone=dict({kind}, style='pytorch',",
            f"                  init_cfg=dict(type='Pretrained', checkpoint='{file}')))",
        ]
        return "\n".join(["```python", *lines, "```"])
    lines = [
        imports,
        "import torchvision",
        "",
        f"network = torchvision.models.{architecture}()",
        f'network.load_state_dict({read}("{file}"), strict=False)  # all but fc',
    ]
    return "\n".join(["```python", *lines, "```"])

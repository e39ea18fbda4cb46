"""`cyborgs export`: a run's backbone in the form that a library reads, checked, with a model card beside it."""

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from cyborgs.augmentation.pixels import MEAN, STD
from cyborgs.evaluation.frozen import LAST_LAYER
from cyborgs.networks.backbone import Backbone
from schemas.errors import ConfigError
from schemas.plan import Step
from schemas.results import Encoder, ProtocolResult
from stages.layouts import Library, published_layout
from stages.model_card import model_card
from stages.weights import encoder_tensors, trained
from storage.artifacts import load_artifact
from storage.checkpoints import content_digest
from storage.local import LocalStore
from storage.run import Run

FORMATS = ("torchvision", "timm", "detectron2", "mmdet", "safetensors")
TOLERANCE = 1e-5
_COUNTER = "num_batches_tracked"
_SAFETENSORS = ".safetensors"
_MMDET_LACKS = ("wide_resnet50_2", "wide_resnet101_2")


class ExportCheckError(RuntimeError):
    """What was written is not what the library reads: a fault of this program, not of its user."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    file: Path
    card: Path
    check: str
    """How it is known that the library reads it."""
    step: Step
    """Whose weights these are."""


def export_backbone(
    run: Run,
    form: str,
    file: Path,
    *,
    encoder: Encoder = "online",
    cycle: int | None = None,
    results: Sequence[ProtocolResult] = (),
) -> Export:
    """Write the backbone and its card. The file is checked before it gets its name; a failed check leaves none.

    Args:
        cycle: None for the last that is trained.
        results: evaluations of these weights, for the card.

    Raises:
        CyborgsError: an unknown format, a file name that the library would not read, a run without weights, or
            results of other weights.
        ExportCheckError: the library would not read what was written, or give other features.
    """
    architecture = run.config.network.architecture
    _check_arguments(form, file, architecture)
    found = trained(run, cycle)
    tensors = encoder_tensors(load_artifact(run, found), encoder)
    digest = content_digest(tensors, {})
    for result in results:
        if result.weights.digest != digest:
            raise ConfigError(
                f"--figures: {result.protocol} of {result.weights.name} ({result.weights.source}) measured other "
                "weights than these"
            )
    folder = LocalStore(file.absolute().parent)
    aside = file.absolute().with_name(f".{file.stem}.unchecked{file.suffix}")
    try:
        folder.write(aside.name, encode(form, file.suffix, to_library(form, tensors), architecture))
        check = check_export(form, architecture, aside, tensors)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    card = file.with_name(file.name + ".md")
    text = model_card(run, found, form=form, file=file, encoder=encoder, digest=digest, check=check, results=results)
    folder.write(card.name, text.encode())
    return Export(file, card, check, found.step)


def _check_arguments(form: str, file: Path, architecture: str) -> None:
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: choose from {', '.join(FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"-o {file}: the folder {file.absolute().parent} does not exist: make it first")
    suffixes = {"safetensors": (_SAFETENSORS,), "detectron2": (".pth",), "mmdet": (".pth",)}
    wanted = suffixes.get(form, (".pth", _SAFETENSORS))
    if file.suffix not in wanted:
        raise ConfigError(f"-o {file}: {form} reads {' or '.join(wanted)}: name the file so")
    if form == "mmdet" and architecture in _MMDET_LACKS:
        raise ConfigError(f"--format mmdet: it has no {architecture}; use torchvision or detectron2")


def to_library(form: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's tensors under the names of a library; torchvision's are timm's and mmdet's too."""
    if form != "detectron2":
        return dict(tensors)
    # Its frozen batch-norm has no counter.
    return {_detectron2_name(name): tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}


def _detectron2_name(name: str) -> str:
    *where, kind, part = name.split(".")
    if not where or where[-1] != "downsample":
        # bn2 belongs to conv2; what is not in a layer is the stem.
        kind = f"conv{kind[-1]}.norm" if kind.startswith("bn") else kind
    else:
        where, kind = where[:-1], "shortcut" if kind == "0" else "shortcut.norm"
    place = [f"res{int(where[0].removeprefix('layer')) + 1}", *where[1:]] if where else ["stem"]
    return ".".join([*place, kind, part])


def encode(form: str, suffix: str, tensors: dict[str, Tensor], architecture: str) -> bytes:
    """The file of a library, from tensors under its names."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if suffix == _SAFETENSORS:
        facts = {"architecture": architecture, "channels": "RGB", "mean": str(list(MEAN)), "std": str(list(STD))}
        return save_safetensors(plain, {"format": "pt", **facts})
    wrapped: object = plain
    if form == "detectron2":
        wrapped = {"model": plain, "__author__": "cyborgs", "matching_heuristics": True}
    elif form == "mmdet":
        wrapped = {"meta": {}, "state_dict": plain}
    buffer = io.BytesIO()
    torch.save(wrapped, buffer)
    return buffer.getvalue()


def check_export(form: str, architecture: str, file: Path, tensors: dict[str, Tensor]) -> str:
    """Load a file back by the real library where it is known how, else hold it against its layout; says which it was.

    Args:
        tensors: what was exported, under torchvision's names.

    Raises:
        ExportCheckError: it is not what the library reads, or gives other features.
    """
    if form in ("detectron2", "mmdet"):
        found = torch.load(file, weights_only=True)["model" if form == "detectron2" else "state_dict"]
        _check_layout("detectron2" if form == "detectron2" else "mmdet", architecture, found)
        return f"names and shapes were checked against {form}'s published layout; the library itself was not run"
    found = load_file(file) if file.suffix == _SAFETENSORS else torch.load(file, weights_only=True)
    _check_layout("timm" if form == "timm" else "torchvision", architecture, found)
    if form == "timm" and importlib.util.find_spec("timm") is None:
        return "timm is not installed here: names and shapes were checked against its published layout"
    if form == "timm":
        import timm

        network = timm.create_model(architecture, pretrained=False, num_classes=0, checkpoint_path=str(file))
        library = f"timm {timm.__version__}"
    else:
        network = torchvision.models.get_model(architecture, weights=None)
        network.fc = nn.Identity()
        network.load_state_dict(found)
        library = f"torchvision {torchvision.__version__}"
    _check_features(network, architecture, tensors)
    return f"loaded back by {library}, no key missing or superfluous, features equal to {TOLERANCE:g}"


def _check_layout(library: Library, architecture: str, tensors: dict[str, Tensor]) -> None:
    """Hold names and shapes against what the library's source says."""
    expected = published_layout(library, architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    wrong = sorted(name for name in {*expected, *shapes} if expected.get(name) != shapes.get(name))
    if wrong:
        raise ExportCheckError(f"{library} would not read {', '.join(wrong[:3])}")


def _check_features(network: nn.Module, architecture: str, tensors: dict[str, Tensor]) -> None:
    """The library's network gives the pooled features of the one that was trained, to 1e-5 of the largest.

    Args:
        network: loaded, without a classifier: (B, 3, H, W) -> (B, C).
    """
    own = Backbone(architecture, seed=0)
    own.load_state_dict(tensors)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = own.eval()(images, [LAST_LAYER])[LAST_LAYER].mean(dim=(2, 3))
        found = network.eval()(images)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    if not difference <= TOLERANCE:
        raise ExportCheckError(f"features differ by {difference:g}")

"""`cyborgs export`: a run's backbone in the form that a library reads, checked, with a model card beside it."""

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from schemas.errors import ConfigError
from schemas.results import Encoder
from stages.layouts import Library, published_layout
from stages.model_card import model_card
from stages.weights import encoder_tensors, trained
from storage.artifacts import load_artifact
from storage.checkpoints import content_digest, encode_tensors
from storage.run import Run

FORMATS = ("torchvision", "timm", "detectron2", "mmdet", "safetensors")
TOLERANCE = 1e-5
_COUNTER = "num_batches_tracked"
_SAFETENSORS = ".safetensors"
_MMDET_LACKS = ("wide_resnet50_2", "wide_resnet101_2")


@dataclass(frozen=True)
class Export:
    """What was written."""

    file: Path
    card: Path
    check: str
    """How it is known that the library reads it."""


def export_backbone(
    run: Run, form: str, file: Path, *, encoder: Encoder = "online", cycle: int | None = None
) -> Export:
    """Write the backbone and its card; nothing is written where a check fails.

    Args:
        cycle: None for the last that is trained.

    Raises:
        CyborgsError: an unknown format, a file name that the library would not read, or a run without weights.
    """
    architecture = run.config.network.architecture
    _check_arguments(form, file, architecture)
    found = trained(run, cycle)
    tensors = encoder_tensors(load_artifact(run, found), encoder)
    renamed = to_library(form, tensors)
    check = check_export(form, architecture, renamed, tensors)
    card = file.with_name(file.name + ".md")
    text = model_card(
        run, found, form=form, file=file, encoder=encoder, digest=content_digest(tensors, {}), check=check
    )
    file.write_bytes(_encode(form, file, renamed))
    card.write_text(text, encoding="utf-8")
    return Export(file, card, check)


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


def _encode(form: str, file: Path, tensors: dict[str, Tensor]) -> bytes:
    if file.suffix == _SAFETENSORS:
        return encode_tensors(tensors)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    wrapped: object = plain
    if form == "detectron2":
        wrapped = {"model": plain, "__author__": "cyborgs", "matching_heuristics": True}
    elif form == "mmdet":
        wrapped = {"meta": {}, "state_dict": plain}
    buffer = io.BytesIO()
    torch.save(wrapped, buffer)
    return buffer.getvalue()


def check_layout(library: Library, architecture: str, tensors: dict[str, Tensor]) -> None:
    """Hold names and shapes against what the library's source says."""
    expected = published_layout(library, architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    wrong = sorted(name for name in {*expected, *shapes} if expected.get(name) != shapes.get(name))
    assert not wrong, f"{library} would not read {wrong[:3]}"


def check_features(network: nn.Module, architecture: str, tensors: dict[str, Tensor]) -> None:
    """The library's network gives the features of torchvision's, which the run was trained with, to 1e-5.

    Args:
        network: loaded, without a classifier: (B, 3, H, W) -> (B, C).
    """
    own = torchvision.models.get_model(architecture, weights=None)
    own.fc = nn.Identity()
    own.load_state_dict(tensors)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = own.eval()(images), network.eval()(images)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    assert difference <= TOLERANCE, f"features differ by {difference:g}"


def check_export(form: str, architecture: str, renamed: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    """Load it back by the real library where it is installed, else hold it against its layout; says which it was.

    Args:
        renamed: under the library's names.
        tensors: under torchvision's.
    """
    if form in ("detectron2", "mmdet"):
        check_layout("detectron2" if form == "detectron2" else "mmdet", architecture, renamed)
        return f"names and shapes were checked against {form}'s published layout; the library itself was not run"
    check_layout("timm" if form == "timm" else "torchvision", architecture, renamed)
    if form == "timm" and importlib.util.find_spec("timm") is None:
        return "timm is not installed here: names and shapes were checked against its published layout"
    if form == "timm":
        import timm

        network, version = timm.create_model(architecture, pretrained=False, num_classes=0), timm.__version__
    else:
        network, version = torchvision.models.get_model(architecture, weights=None), torchvision.__version__
        network.fc = nn.Identity()
    network.load_state_dict(renamed)
    check_features(network, architecture, tensors)
    library = "timm" if form == "timm" else "torchvision"
    return f"loaded back by {library} {version}, no key missing or superfluous, features equal to {TOLERANCE:g}"

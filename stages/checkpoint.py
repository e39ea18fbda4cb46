"""A pretraining state as files: the backbone as people take it home, and all the rest beside it."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cyborgs.training.state import TrainingState
from schemas.errors import DamagedArtifactError, RunError
from storage import layout
from storage.artifacts import Artifact
from storage.checkpoints import content_digest, decode_tensors, encode_tensors

REMEDY = "Try a lower optimization.learning_rate, or numerics.precision=float32"
"""Where numbers grew beyond all bounds."""
_BACKBONE = "network/online.backbone."


def backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The online backbone under torchvision's names."""
    return {name.removeprefix(_BACKBONE): t for name, t in tensors.items() if name.startswith(_BACKBONE)}


def finite_tensors(pretraining: TrainingState) -> dict[str, Tensor]:
    """All that pretraining moves, if every number of it is finite: a loss may be, and the update after it not.

    Raises:
        RunError: it is not, and must not take the place of a state that was.
    """
    tensors = pretraining.tensors()
    wrong = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise RunError(
            f"{wrong[0]} is not finite after step {pretraining.step}; the last saved state is kept. {REMEDY}"
        )
    return tensors


def write_checkpoint(pretraining: TrainingState, write: Callable[[str, bytes], None]) -> str:
    """Hand model.safetensors and training_state.safetensors to `write`; returns their content digest."""
    tensors = finite_tensors(pretraining)
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BACKBONE)}
    position = {"step": pretraining.step}
    write(layout.MODEL, encode_tensors(backbone_of(tensors), position))
    write(layout.TRAINING_STATE, encode_tensors(rest, position))
    return content_digest(tensors, position)


def read_checkpoint(artifact: Artifact, pretraining: TrainingState, *, step: int) -> None:
    """Load what `write_checkpoint` wrote.

    Raises:
        DamagedArtifactError: it stands at another step than the plan says.
    """
    backbone = read_backbone(artifact.path(layout.MODEL))
    rest, position = decode_tensors(artifact.path(layout.TRAINING_STATE).read_bytes())
    if position["step"] != step:
        raise DamagedArtifactError(f"{artifact.folder} stands at step {position['step']}, expected {step}")
    tensors = rest | {f"{_BACKBONE}{name}": tensor for name, tensor in backbone.items()}
    pretraining.load(tensors, step=step)


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Backbone weights under torchvision's names."""
    return decode_tensors(path.read_bytes())[0]

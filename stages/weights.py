"""The backbone that an evaluation or export is about: of a run, of a file, or random; and which keys were used."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cyborgs.networks.backbone import Backbone
from cyborgs.random_streams import stream_seed
from schemas.architectures import ARCHITECTURES
from schemas.digests import digest_json
from schemas.errors import ConfigError, RunError
from schemas.loading import flatten
from schemas.results import Encoder, UsedWeights
from storage import layout
from storage.artifacts import Artifact, Standing, Standings, load_artifact
from storage.checkpoints import content_digest, decode_tensors, read_state_dict
from storage.index import read_photographs
from storage.run import Run, find_run
from storage.sources import expand

_TARGET = "network/target.backbone."
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """A backbone with what is known of it."""

    backbone: Backbone
    used: UsedWeights
    run: Run | None = None
    cycle: int | None = None
    """Of the run: the cycle whose training they are the end of; None after warm-up."""


def load_weights(
    source: str, *, architecture: str, seed: int, cycle: int | None = None, encoder: Encoder = "online"
) -> Weights:
    """The weights that a person names.

    Args:
        source: "random", a run, or a file with a state dict.
        architecture, seed: of random weights.
        cycle: of a run; None for the last that is trained.
        encoder: of a run.

    Raises:
        ConfigError: there is no such file or run, or its keys do not make up a backbone.
        RunError: the run has no such weights yet.
    """
    if source == "random":
        backbone = Backbone(architecture, seed=stream_seed("backbone", seed))
        digest, keys = backbone_digest(backbone), len(backbone.state_dict())
        used = UsedWeights(
            source=source,
            name=f"random {architecture}",
            kind=digest_json(["random", architecture]),
            architecture=architecture,
            seed=seed,
            digest=digest,
            used=keys,
            left_out=(),
        )
        return Weights(backbone, used)
    run = find_run(source)
    if run is not None:
        return _of_run(run, source, cycle=cycle, encoder=encoder)
    if cycle is not None or encoder != "online":
        raise ConfigError(f"--weights {source}: only a run has cycles and two encoders")
    return _of_file(source)


def backbone_digest(backbone: Backbone) -> str:
    """Content digest over its parameters and buffers."""
    return content_digest(backbone.state_dict(), {})


def trained(run: Run, cycle: int | None = None) -> Standing:
    """The step of a run whose weights are meant: its last that is done, or the training of a cycle.

    Raises:
        RunError: it is not done.
    """
    done = [found for found in Standings(run).all() if found.state == "done"]
    if cycle is None:
        done = [found for found in done if found.step.stage in ("warm-up", "train")]
        if not done:
            raise RunError(f"run {run.store.url} has no trained weights yet: `cyborgs run` makes them")
        return done[-1]
    for found in done:
        if found.step.stage == "train" and found.step.cycle == cycle:
            return found
    raise RunError(f"train cycle {cycle} of {run.store.url} is not done: `cyborgs status {run.store.url}` shows all")


def encoder_tensors(artifact: Artifact, encoder: Encoder) -> dict[str, Tensor]:
    """Backbone weights of one of the two encoders, under torchvision's names."""
    if encoder == "online":
        return decode_tensors(artifact.path(layout.MODEL).read_bytes())[0]
    state = decode_tensors(artifact.path(layout.TRAINING_STATE).read_bytes())[0]
    if not any(name.startswith(_TARGET) for name in state):
        raise ConfigError("--encoder target: the run's method has no running average; use online")
    return {name.removeprefix(_TARGET): tensor for name, tensor in state.items() if name.startswith(_TARGET)}


def _of_run(run: Run, source: str, *, cycle: int | None, encoder: Encoder) -> Weights:
    found = trained(run, cycle)
    tensors = encoder_tensors(load_artifact(run, found), encoder)
    architecture = run.config.network.architecture
    backbone = Backbone(architecture, seed=0)
    backbone.load_state_dict(tensors)
    place = "warm-up" if found.step.cycle is None else f"cycle {found.step.cycle}"
    used = UsedWeights(
        source=source,
        name=f"{run.record.name}, {place}" + (", target" if encoder == "target" else ""),
        kind=_kind(run, place, encoder),
        architecture=architecture,
        seed=run.config.seed,
        digest=backbone_digest(backbone),
        used=len(tensors),
        left_out=(),
    )
    return Weights(backbone, used, run, found.step.cycle)


def _kind(run: Run, place: str, encoder: Encoder) -> str:
    """What another seed would not change; the order of the photographs is one of the things that it does."""
    config = {
        name: value
        for name, value in flatten(run.config).items()
        if name != "seed" and not name.startswith(("placement.", "evaluate."))
    }
    photographs = read_photographs(load_artifact(run, Standings(run).input("index-images")))
    return digest_json([config, sorted(each.digest for each in photographs), place, encoder])


def _of_file(source: str) -> Weights:
    path = expand(source)
    if not path.is_file():
        raise ConfigError(f'--weights {source}: no such file or run; name a run, a weights file, or "random"')
    try:
        tensors = read_state_dict(path)
    except ConfigError as error:
        raise ConfigError(f"--weights {source}: {error}") from error
    # Saved with a head or a wrapper around it: the backbone is what stands below a common prefix.
    prefix = next((name.removesuffix("conv1.weight") for name in tensors if _is_stem(name)), "")
    plain = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    architecture = _recognise(source, plain)
    backbone = Backbone(architecture, seed=0)
    expected = backbone.state_dict()
    backbone.load_state_dict(expected | {name: plain[name] for name in expected if name in plain})
    used = sorted(name for name in expected if name in plain)
    left_out = sorted(name for name in tensors if name.removeprefix(prefix) not in expected)
    digest = backbone_digest(backbone)
    described = UsedWeights(
        source=source,
        name=path.name,
        kind=digest,
        architecture=architecture,
        seed=None,
        digest=digest,
        used=len(used),
        left_out=tuple(left_out),
    )
    return Weights(backbone, described)


def _is_stem(name: str) -> bool:
    return name == "conv1.weight" or (name.endswith(".conv1.weight") and "layer" not in name)


def _recognise(source: str, tensors: dict[str, Tensor]) -> str:
    """The architecture whose backbone these tensors are, by names and shapes."""
    nearest: tuple[int, str, str] | None = None
    for architecture in ARCHITECTURES:
        with torch.device("meta"):
            expected = {
                name: tensor.shape
                for name, tensor in Backbone(architecture, seed=0).state_dict().items()
                if not name.endswith(_COUNTER)
            }
        wrong = [name for name, shape in expected.items() if name not in tensors or tensors[name].shape != shape]
        # A deeper network of the same kind has all of a shallower one's keys, and more.
        more = [name for name in tensors if name.startswith("layer") and name not in expected]
        more = [name for name in more if not name.endswith(_COUNTER)]
        if not wrong and not more:
            return architecture
        misfit = (len(wrong) + len(more), architecture, (wrong + more)[0])
        nearest = misfit if nearest is None or misfit < nearest else nearest
    assert nearest is not None
    raise ConfigError(
        f"--weights {source}: its keys make up no ResNet under torchvision's names; nearest is {nearest[1]}, with "
        f"{nearest[0]} keys missing or of another shape, such as {nearest[2]}"
    )

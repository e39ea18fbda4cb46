"""Steps of the baselines: they learn, go on to equal tensors, and do not depend on micro-batches where they may not."""

import itertools
from typing import get_args

import pytest
import torch
from torch import Tensor

from cyborgs.baselines.network import ImageNetwork, Method, Queue
from cyborgs.baselines.pretraining import ImageContrast, ImagePretraining
from cyborgs.optimization.optimizers import make_optimizer
from cyborgs.training.settings import Optimization

METHODS: tuple[Method, ...] = get_args(Method)


def make(method: Method, **options: int) -> ImagePretraining:
    network = ImageNetwork(method, architecture="resnet18", hidden=32, dim=16, queue=20, seed=1)
    optimizer = make_optimizer(
        "adamw",
        [(name, p) for name, p in network.named_parameters() if p.requires_grad],
        learning_rate=0.001,
        weight_decay=1e-4,
        momentum=0.9,
        trust_coefficient=0.001,
    )
    optimization = Optimization(
        learning_rate=0.001, lr_warmup_steps=0, lr_schedule="cosine", lr_milestones=(), lr_decay=0.1,
        ema_momentum=0.9, ema_schedule="constant", steps=40,
    )  # fmt: skip
    return ImagePretraining(network, optimizer, optimization=optimization, contrast=ImageContrast(0.2, 0.5), **options)


def batch(step: int, images: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step % 4)
    # A pattern of its own for each image: of plain noise every average is alike.
    scenes = torch.randint(0, 256, (images, 1, 3, 2, 2), generator=generator).repeat_interleave(16, 3)
    scenes = scenes.repeat_interleave(16, 4)
    noise = torch.randint(-20, 21, (images, 2, 3, 32, 32), generator=generator)
    views = (scenes + noise).clamp(0, 255).to(torch.uint8)
    return {"row": torch.arange(images), "views": views}


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method: Method) -> None:
    pretraining = make(method)
    losses = [float(pretraining.train_step(batch(step))["loss"]) for step in range(24)]
    # A queue holds random vectors at first, which are no match for any key.
    start = 4 if method in ("moco", "densecl") else 0
    assert sum(losses[-4:]) < 0.8 * sum(losses[start : start + 4])


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_from_any_step_to_equal_tensors(method: Method) -> None:
    whole, broken = make(method), make(method)
    for step in range(4):
        whole.train_step(batch(step))
    for step in range(2):
        broken.train_step(batch(step))
    again = make(method)
    again.load({name: tensor.clone() for name, tensor in broken.tensors().items()}, step=2)
    for step in range(2, 4):
        again.train_step(batch(step))
    expected = whole.tensors()
    assert again.tensors().keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in again.tensors().items())


@pytest.mark.parametrize("method", METHODS)
def test_every_weight_is_trained_and_the_target_follows(method: Method) -> None:
    pretraining = make(method)
    before = {name: tensor.clone() for name, tensor in pretraining.network.state_dict().items()}
    pretraining.train_step(batch(0))
    for name, parameter in pretraining.network.named_parameters():
        moved = not parameter.equal(before[name])
        assert moved, name
    if method != "simclr":
        first = next(name for name in before if name.startswith("target.") and name.endswith("conv1.weight"))
        online = first.replace("target.", "online.")
        now = pretraining.network.state_dict()
        torch.testing.assert_close(now[first], 0.9 * before[first] + 0.1 * now[online])


def test_a_queue_is_first_in_first_out() -> None:
    queue = Queue(5, 3, seed=0)
    rows = [torch.eye(3)[number % 3] * (number + 1) for number in range(8)]
    for first, second in itertools.pairwise(rows):
        queue.push(torch.stack([first, second]))
    # Fourteen keys were pushed; the last five stand there as unit vectors, the oldest of them where the next goes.
    pushed = [each for first, second in itertools.pairwise(range(8)) for each in (first, second)][-5:]
    place = int(queue.place)
    ordered = torch.cat([queue.rows[place:], queue.rows[:place]])
    assert ordered.argmax(dim=1).tolist() == [number % 3 for number in pushed]
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))


def test_simclr_takes_no_micro_batches() -> None:
    with pytest.raises(ValueError, match="contrasts a batch with itself"):
        make("simclr", accumulation=2)

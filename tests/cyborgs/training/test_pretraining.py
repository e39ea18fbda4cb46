"""Steps of pretraining on a small network: what moves, by how much, and that a run can stop anywhere."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cyborgs.augmentation.pixels import normalise
from cyborgs.networks.fusion import fuse, unit_features
from cyborgs.networks.siamese import RegionEncoder, SiameseNetwork, apply_to_regions
from cyborgs.optimization.optimizers import OptimizerName, make_optimizer
from cyborgs.training.pretraining import Pretraining
from cyborgs.training.settings import Contrast, Optimization, VmfLoss
from cyborgs.training.vmf_step import cluster_step, vmf_loss
from tests.cyborgs import references

BATCH, SIZE, GRID, REGIONS, STEPS = 4, 64, 4, 4, 40

OPTIMIZATION = Optimization(
    learning_rate=0.01,
    lr_warmup_steps=10,
    lr_schedule="cosine",
    lr_milestones=(),
    lr_decay=0.1,
    ema_momentum=0.996,
    steps=STEPS,
)
VMF = VmfLoss(
    layers=("layer2.0",),
    clusters=(4, 4),
    concentration=10.0,
    distance="vmf",
    branches="symmetric",
    correspondence="geometric",
    iterations=5,
    points_per_cluster=64,
)
CONTRAST = Contrast(temperature=0.1, vmf_weight=0.1, vmf_update="joint")

State = dict[str, Tensor]


def _pretraining(
    optimizer: OptimizerName = "sgd",
    *,
    momentum: float = 0.9,
    weight_decay: float = 1e-3,
    vmf: VmfLoss = VMF,
    bfloat16: bool = False,
) -> Pretraining:
    network = SiameseNetwork(
        architecture="resnet18",
        contrast_layers=("layer2", "layer3", "layer4"),
        region_grid=GRID,
        downsample="area",
        hidden=16,
        dim=8,
        seed=0,
    )
    network.to(memory_format=torch.channels_last)
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    return Pretraining(
        network,
        make_optimizer(
            optimizer,
            trained,
            learning_rate=0.01,
            weight_decay=weight_decay,
            momentum=momentum,
            trust_coefficient=0.1,
        ),
        optimization=OPTIMIZATION,
        vmf=vmf,
        seed=0,
        bfloat16=bfloat16,
    )


def _plain(vmf: VmfLoss = VMF) -> Pretraining:
    """Gradient descent without momentum and decay: a weight's move is the learning rate times its gradient."""
    return _pretraining(momentum=0.0, weight_decay=0.0, vmf=vmf)


def _batch(seed: int = 0, *, views: int = 2) -> State:
    random = np.random.default_rng(seed)
    boxes = np.concatenate(
        [
            random.uniform(0, 0.3, (BATCH, views, 2)),
            random.uniform(0.4, 0.7, (BATCH, views, 2)),
            random.integers(0, 2, (BATCH, views, 1)),
        ],
        axis=2,
    )
    coarse = torch.from_numpy(random.integers(0, 256, (BATCH * views, 3, 8, 8), dtype=np.uint8))
    labels = random.integers(0, 3, (BATCH, 2, GRID, GRID), dtype=np.uint8)
    regions = np.stack([[random.choice(np.unique(grid), REGIONS) for grid in image] for image in labels]).astype(
        np.int64
    )
    return {
        "row": torch.from_numpy(random.permutation(100)[:BATCH]),
        "views": torch.nn.functional.interpolate(coarse, SIZE).unflatten(0, (BATCH, views)),
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(labels),
        "regions": torch.from_numpy(regions),
    }


def _state(pretraining: Pretraining) -> State:
    return {name: tensor.clone() for name, tensor in pretraining.network.state_dict().items()}


def _assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not first[name].equal(second[name])]
    assert not different, f"{len(different)} differ, such as {different[0]}"


def _part_target(network: SiameseNetwork) -> None:
    """Give the target weights of its own, so that mixing it up with the online network is seen."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in network.target.parameters():
            weight.mul_(1 + 0.3 * torch.randn(weight.shape, generator=random))


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_stopping_and_going_on_changes_nothing(optimizer: OptimizerName) -> None:
    """Four steps over both phases and both kinds of update, stopped after warm-up and again later: equal bits."""
    separate = replace(CONTRAST, vmf_update="separate")

    def take(pretraining: Pretraining, first: int, last: int) -> None:
        for step in range(first, last):
            if step == 0:
                pretraining.warm_up_step(_batch(step))
            else:
                contrast = separate if step == 2 else CONTRAST
                pretraining.train_step(_batch(step, views=4), contrast, with_vmf=step > 1)

    straight = _pretraining(optimizer)
    take(straight, 0, 4)
    stopped = _pretraining(optimizer)
    for first, last in ((0, 1), (1, 3), (3, 4)):
        take(stopped, first, last)
        saved = {name: tensor.clone() for name, tensor in stopped.tensors().items()}
        stopped = _pretraining(optimizer)
        stopped.load(saved, step=last)
    assert stopped.step == straight.step == 4
    _assert_equal(straight.tensors(), stopped.tensors())


def test_saved_tensors_hold_networks_and_optimizer() -> None:
    """All network tensors, and momentum for what has been trained: in warm-up only the layers that run."""
    pretraining = _pretraining()
    pretraining.warm_up_step(_batch())
    names = set(pretraining.tensors())
    of_network = {f"network/{name}" for name in pretraining.network.state_dict()}
    moved = {
        f"optimizer/{name}/momentum_buffer"
        for name, weight in pretraining.network.online.named_parameters(prefix="online")
        if weight.grad is not None
    }
    assert names == of_network | moved
    assert "optimizer/online.backbone.layer2.0.conv1.weight/momentum_buffer" in moved
    assert not any("layer3" in name for name in moved)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_warm_up_moves_the_layers_up_to_the_clustered_one_alone(optimizer: OptimizerName) -> None:
    """Later layers and heads keep weights and statistics to the bit, decay notwithstanding, in both networks."""
    pretraining = _pretraining(optimizer, weight_decay=0.1)
    before = _state(pretraining)
    for step in range(2):
        pretraining.warm_up_step(_batch(step))
    after = _state(pretraining)
    runs = ("conv1", "bn1", "layer1", "layer2.0")
    for name, tensor in after.items():
        reached = any(f"backbone.{part}." in name for part in runs)
        assert tensor.equal(before[name]) != reached, name


def test_warm_up_trains_on_the_vmf_loss_with_weight_one() -> None:
    """Value of unit features of the two networks, and one step of its gradient."""
    pretraining, batch = _plain(), _batch()
    _part_target(pretraining.network)
    network = copy.deepcopy(pretraining.network).train()
    metrics = pretraining.warm_up_step(batch)

    def units(encoder: RegionEncoder, view: int) -> Tensor:
        return unit_features([encoder.backbone(normalise(batch["views"][:, view]), ["layer2.0"])["layer2.0"]])

    online = (units(network.online, 0), units(network.online, 1))
    target = (units(network.target, 0).detach(), units(network.target, 1).detach())
    clusters = cluster_step(online, target, batch["boxes"], batch["row"], VMF, seed=0, step=0)
    expected = vmf_loss(online, clusters, slice(None), VMF)
    assert float(metrics["vmf_loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    weight = network.online.backbone.conv1.weight
    (gradient,) = torch.autograd.grad(expected, weight)
    moved = pretraining.network.online.backbone.conv1.weight - weight
    torch.testing.assert_close(moved.detach(), -0.001 * gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("branches", ["symmetric", "paper"])
def test_branches_decide_which_networks_run(branches: str) -> None:
    """Counted by batch-norm: both views through both networks, or view 1 online and view 2 through the target."""
    pretraining = _plain(replace(VMF, branches=branches))  # type: ignore[arg-type]
    ran: list[str] = []
    for name in ("online", "target"):
        pretraining.network.get_submodule(f"{name}.backbone.bn1").register_forward_hook(
            lambda *_, name=name: ran.append(name)
        )
    pretraining.warm_up_step(_batch())
    assert sorted(ran) == (
        ["online", "online", "target", "target"] if branches == "symmetric" else ["online", "target"]
    )


def test_mask_loss_of_a_step() -> None:
    """From pixels to the value, by the reference: predictions of a view against target projections of the other."""
    pretraining, batch = _plain(), _batch(3)
    _part_target(pretraining.network)
    network = copy.deepcopy(pretraining.network).train()
    metrics = pretraining.train_step(batch, CONTRAST, with_vmf=False)

    def project(encoder: RegionEncoder, view: int) -> Tensor:
        layers = ("layer2", "layer3", "layer4")
        maps = encoder.backbone(normalise(batch["views"][:, view]), layers)
        fused = fuse([maps[layer] for layer in layers], GRID).double().numpy()
        labels, regions = (batch[key][:, view].numpy() for key in ("labels", "regions"))
        means = references.region_means(fused, labels.reshape(BATCH, -1), regions)
        return apply_to_regions(encoder.projector, torch.from_numpy(means).float())

    with torch.no_grad():
        predictions = [
            apply_to_regions(network.predictor, project(network.online, view)).double().numpy() for view in (0, 1)
        ]
        targets = [project(network.target, view).double().numpy() for view in (0, 1)]
    regions = (batch["regions"][:, 0].numpy(), batch["regions"][:, 1].numpy())
    expected = references.mask_loss(
        (predictions[0], predictions[1]), regions, (targets[0], targets[1]), regions, temperature=0.1
    )
    assert float(metrics["loss"]) == pytest.approx(expected.loss, rel=1e-3)
    assert float(metrics["mask_loss"]) == pytest.approx(expected.loss, rel=1e-3)
    assert float(metrics["orphans"]) == pytest.approx(expected.orphans)
    assert float(metrics["positives_per_anchor"]) == pytest.approx(expected.positives_per_anchor)
    vectors = references.unit(np.concatenate([view.reshape(-1, 8) for view in targets]))
    spread = vectors.std(axis=0, ddof=1).mean() * 8**0.5
    assert float(metrics["projection_std"]) == pytest.approx(spread, rel=1e-3)
    present = [len(np.unique(grid)) for grid in batch["labels"].flatten(0, 1).numpy()]
    assert float(metrics["regions_per_view"]) == pytest.approx(np.mean(present))


def test_joint_update_follows_the_weighted_sum_of_both_gradients() -> None:
    """Moves without momentum add up: joint = mask + lambda x vMF, in layers that both reach."""
    batch, start = _batch(1), None
    moves = []
    contrast = replace(CONTRAST, vmf_weight=0.7)
    for kind in ("joint", "mask", "vmf"):
        pretraining = _plain()
        start = pretraining.network.online.backbone.conv1.weight.detach().clone()
        if kind == "vmf":
            pretraining.warm_up_step(batch)
        else:
            metrics = pretraining.train_step(batch, contrast, with_vmf=kind == "joint")
            if kind == "joint":
                total = float(metrics["mask_loss"]) + 0.7 * float(metrics["vmf_loss"])
                assert float(metrics["loss"]) == pytest.approx(total, rel=1e-5)
        moves.append(pretraining.network.online.backbone.conv1.weight.detach() - start)
    joint, mask, vmf = moves
    scale = float(joint.abs().max())
    torch.testing.assert_close(joint, mask + 0.7 * vmf, rtol=1e-3, atol=1e-3 * scale)
    assert float(vmf.abs().max()) > 0.01 * scale, "too small a part to be seen"


def test_joint_with_weight_zero_is_the_mask_loss_alone() -> None:
    states = []
    for with_vmf in (True, False):
        pretraining = _pretraining("adamw")
        pretraining.train_step(_batch(), replace(CONTRAST, vmf_weight=0.0), with_vmf=with_vmf)
        states.append(_state(pretraining))
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-6, atol=1e-7, msg=name)


def test_separate_is_two_updates_with_views_of_their_own() -> None:
    """The mask loss on views 1 and 2, then, at the same step of the schedules, the vMF loss on views 3 and 4."""
    batch = _batch(2, views=4)
    separate = _pretraining()
    separate.train_step(batch, Contrast(0.1, 1.0, "separate"), with_vmf=True)
    assert separate.step == 1

    by_hand = _pretraining()
    by_hand.train_step(batch, CONTRAST, with_vmf=False)
    by_hand.step = 0
    later = {"row": batch["row"], "views": batch["views"][:, 2:], "boxes": batch["boxes"][:, 2:]}
    by_hand.warm_up_step(later)
    _assert_equal(_state(separate), _state(by_hand))


def test_separate_update_has_its_weight() -> None:
    """The move that comes on top of the mask loss's is proportional to lambda."""
    batch, weights = _batch(2, views=4), []
    for weight in (0.0, 0.5, 1.0):
        pretraining = _plain()
        pretraining.train_step(batch, Contrast(0.1, weight, "separate"), with_vmf=True)
        weights.append(pretraining.network.online.backbone.conv1.weight.detach().clone())
    half, whole = weights[1] - weights[0], weights[2] - weights[0]
    torch.testing.assert_close(2 * half, whole, rtol=1e-2, atol=1e-2 * float(whole.abs().max()))
    assert whole.abs().max() > 0


def test_separate_update_logs_the_weighted_sum() -> None:
    pretraining = _plain()
    metrics = pretraining.train_step(_batch(2, views=4), Contrast(0.1, 0.5, "separate"), with_vmf=True)
    expected = float(metrics["mask_loss"]) + 0.5 * float(metrics["vmf_loss"])
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)


def test_target_is_the_moving_average_after_the_step() -> None:
    """Momentum of a run of 40 steps at step 10: 1 - 8/40 (1 + cos(pi/4)) / 2; statistics are copied."""
    pretraining = _pretraining()
    _part_target(pretraining.network)
    pretraining.step = 10
    before = {name: weight.detach().clone() for name, weight in pretraining.network.target.named_parameters()}
    metrics = pretraining.train_step(_batch(), CONTRAST, with_vmf=False)
    momentum = 1 - 0.2 * (1 + 2**-0.5) / 2
    assert metrics["ema_momentum"] == pytest.approx(momentum)
    online = dict(pretraining.network.online.named_parameters())
    for name, weight in pretraining.network.target.named_parameters():
        expected = momentum * before[name] + (1 - momentum) * online[name].detach()
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6, msg=name)
    buffers = dict(pretraining.network.online.named_buffers())
    for name, buffer in pretraining.network.target.named_buffers():
        assert buffer.equal(buffers[name]), name


def test_learning_rate_of_a_step_is_applied() -> None:
    """Growth (k + 1) / 10 of 0.01: step 3 moves four times as far as step 0 from the same weights."""
    moves = []
    for step in (0, 3):
        pretraining = _plain()
        before = pretraining.network.online.backbone.conv1.weight.detach().clone()
        pretraining.step = step
        metrics = pretraining.train_step(_batch(), CONTRAST, with_vmf=False)
        moves.append(pretraining.network.online.backbone.conv1.weight.detach() - before)
        assert pretraining.step == step + 1
        assert metrics["learning_rate"] == pytest.approx(0.001 * (step + 1))
    torch.testing.assert_close(moves[1], 4 * moves[0], rtol=1e-2, atol=1e-3 * float(moves[1].abs().max()))


def test_both_phases_share_counter_and_schedule() -> None:
    """A warm-up step at step 3 has the rate of step 3, and training goes on from 4."""
    pretraining = _pretraining()
    pretraining.step = 3
    assert pretraining.warm_up_step(_batch())["learning_rate"] == pytest.approx(0.004)
    metrics = pretraining.train_step(_batch(), CONTRAST, with_vmf=False)
    assert metrics["learning_rate"] == pytest.approx(0.005)
    assert pretraining.step == 5


def test_networks_train_even_after_they_were_evaluated() -> None:
    """A step puts both networks in training mode: batch statistics, and running ones that move."""
    first, second = _pretraining(), _pretraining()
    second.network.eval()
    for pretraining in (first, second):
        pretraining.train_step(_batch(), CONTRAST, with_vmf=False)
    _assert_equal(_state(first), _state(second))
    assert int(first.network.target.backbone.bn1.num_batches_tracked) == 2


def test_training_lowers_the_loss() -> None:
    """The same batch six times over, from the end of the growth, by the optimiser whose steps keep their length: others
    leap about on four images, by a way that hangs on rounding.
    """
    pretraining = _pretraining("lars")
    pretraining.step = 10
    losses = [float(pretraining.train_step(_batch(), CONTRAST, with_vmf=True)["loss"]) for _ in range(6)]
    assert losses[-1] < 0.8 * losses[0]


def test_bfloat16_rounds_the_networks_but_not_weights_or_losses() -> None:
    exact, rounded = _plain(), _pretraining(momentum=0.0, weight_decay=0.0, bfloat16=True)
    losses = [pretraining.train_step(_batch(), CONTRAST, with_vmf=True)["loss"] for pretraining in (exact, rounded)]
    assert isinstance(losses[1], Tensor)
    assert losses[1].dtype == torch.float32
    assert float(losses[0]) != float(losses[1])
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=0.1)
    assert {weight.dtype for weight in rounded.network.parameters()} == {torch.float32}

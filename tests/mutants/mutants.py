"""Wrong implementations that were seen elsewhere or are easily made: one change of one line each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation, and the tests that have to notice it."""

    name: str
    file: str
    before: str
    after: str
    tests: str
    """Folder or file under tests/."""


LOSSES = "cyborgs/losses"
_STEP_TESTS = "cyborgs/training/test_pretraining.py"
_VMF_STEP_TESTS = "cyborgs/training/test_vmf_step.py"
_VMF, _MASK = "cyborgs/losses/vmf.py", "cyborgs/losses/mask_contrastive.py"
_VMF_STEP, _STEP = "cyborgs/training/vmf_step.py", "cyborgs/training/pretraining.py"
_STATE = "cyborgs/training/state.py"
_KMEANS, _BOOTSTRAP = "cyborgs/clustering/spherical_kmeans.py", "cyborgs/clustering/bootstrap.py"
_MATCHES, _LABELS = "cyborgs/regions/correspondence.py", "cyborgs/regions/label_grid.py"
_POOLING, _FUSION = "cyborgs/regions/pooling.py", "cyborgs/networks/fusion.py"
_SIAMESE, _EMA = "cyborgs/networks/siamese.py", "cyborgs/optimization/ema.py"
_SCHEDULES, _OPTIMIZERS = "cyborgs/optimization/schedules.py", "cyborgs/optimization/optimizers.py"

MUTANTS = [
    Mutant(
        "vMF sign flipped",
        _VMF,
        "F.cross_entropy(concentration * features",
        "F.cross_entropy(-concentration * features",
        LOSSES,
    ),
    Mutant("kappa dropped", _VMF, "F.cross_entropy(concentration * features", "F.cross_entropy(features", LOSSES),
    Mutant(
        "prototypes not normalised",
        _KMEANS,
        "clustering.spherical = True",
        "clustering.spherical = False",
        "cyborgs/clustering",
    ),
    Mutant(
        "own-view prototypes in the inter term",
        _VMF,
        "inter(features_1, clustering_2, matches_1, matched_1)",
        "inter(features_1, clustering_1, matches_1, matched_1)",
        LOSSES,
    ),
    Mutant(
        "own-view prototypes in the other inter term",
        _VMF,
        "inter(features_2, clustering_1, matches_2, matched_2)",
        "inter(features_2, clustering_2, matches_2, matched_2)",
        LOSSES,
    ),
    Mutant(
        "flip ignored in the correspondence",
        _MATCHES,
        "columns = torch.where(flip > 0, 1 - columns, columns)",
        "columns = torch.where(flip > 2, 1 - columns, columns)",
        "cyborgs/regions",
    ),
    Mutant(
        "flip of the other view ignored in the correspondence",
        _MATCHES,
        "horizontal = torch.where(flip > 0, 1 - horizontal, horizontal)",
        "horizontal = torch.where(flip > 2, 1 - horizontal, horizontal)",
        "cyborgs/regions",
    ),
    Mutant(
        "inter terms averaged over all cells of a share",
        _VMF_STEP,
        "[(matches >= 0).sum() for matches in (matches_1, matches_2)]",
        "[torch.tensor(matches.numel()) for matches in (matches_1, matches_2)]",
        _VMF_STEP_TESTS,
    ),
    Mutant(
        "overlap not masked",
        _MATCHES,
        "return torch.where(inside, cell, -1).flatten(1)",
        "return torch.where(inside, cell, 0).flatten(1)",
        "cyborgs/regions",
    ),
    Mutant(
        "inter terms averaged over all cells",
        _VMF,
        "count = found.sum().clamp(min=1) if matched is None else matched.to(each)",
        "count = torch.tensor(found.numel()) if matched is None else matched.to(each)",
        LOSSES,
    ),
    Mutant(
        "K off by one at the upper end",
        _BOOTSTRAP,
        "random.integers(clusters[0], clusters[1], endpoint=True)",
        "random.integers(clusters[0], clusters[1])",
        "cyborgs/clustering",
    ),
    Mutant(
        "K off by one at the lower end",
        _BOOTSTRAP,
        "random.integers(clusters[0], clusters[1], endpoint=True)",
        "random.integers(clusters[0] + 1, clusters[1], endpoint=True)",
        "cyborgs/clustering",
    ),
    Mutant(
        "seed without the cycle",
        _BOOTSTRAP,
        'stream("masks", seed, cycle, group)',
        'stream("masks", seed, group)',
        "cyborgs/clustering",
    ),
    Mutant(
        "labels assigned before the last centroid update",
        _KMEANS,
        "clustering.niter = iterations",
        "clustering.niter = iterations - 1",
        "cyborgs/clustering",
    ),
    Mutant(
        "ids clipped to 81",
        _POOLING,
        "member = (regions.unsqueeze(2) == labels.unsqueeze(1))",
        "member = (regions.unsqueeze(2) == labels.clamp(max=80).unsqueeze(1))",
        "cyborgs/regions",
    ),
    Mutant(
        "positives of ids up to 80 alone",
        _MASK,
        "positive = (image == other.images) & (ids == other.regions)",
        "positive = (image == other.images) & (ids == other.regions) & (ids < 81)",
        LOSSES,
    ),
    Mutant(
        "ties to the highest label",
        _LABELS,
        "winners = counts.reshape(grid * grid, LABELS).argmax(axis=1)",
        "winners = LABELS - 1 - counts.reshape(grid * grid, LABELS)[:, ::-1].argmax(axis=1)",
        "cyborgs/regions",
    ),
    Mutant(
        "mean pooling without the area",
        _POOLING,
        "torch.bmm(member, features) / member.sum(dim=2, keepdim=True)",
        "torch.bmm(member, features) / member.shape[2]",
        "cyborgs/regions",
    ),
    Mutant(
        "layer left out of the fusion",
        _FUSION,
        "for layer in features]\n    return torch.cat(maps, dim=1).flatten(2)",
        "for layer in features[:1] + features[:1] + features[2:]]\n    return torch.cat(maps, dim=1).flatten(2)",
        "cyborgs/networks",
    ),
    Mutant(
        "views swapped for one direction only",
        _MASK,
        "two = _direction(predictions_2, regions_2, targets_2, targets_1, temperature, first_image)",
        "two = _direction(predictions_2, regions_2, targets_1, targets_2, temperature, first_image)",
        LOSSES,
    ),
    Mutant("self not masked", _MASK, ".masked_fill_(itself, -torch.inf)", "", LOSSES),
    Mutant(
        "same image's other regions masked too",
        _MASK,
        "itself = (image == own.images) & (ids == own.regions)",
        "itself = image == own.images",
        LOSSES,
    ),
    Mutant("several positives not shared", _MASK, ".sum(dim=1) / positives.clamp(min=1)", ".sum(dim=1)", LOSSES),
    Mutant(
        "orphans counted",
        _MASK,
        "weights = (positives > 0).to(anchors.dtype) / repeats",
        "weights = 1.0 / repeats",
        LOSSES,
    ),
    Mutant(
        "temperature applied twice",
        _MASK,
        "logits_other = anchors @ other.vectors.T",
        "logits_other = anchors @ other.vectors.T / temperature",
        LOSSES,
    ),
    Mutant(
        "target sampled apart from online",
        _STEP,
        "        projected: tuple[list[Tensor], list[Tensor]] = ([], [])\n",
        "        projected: tuple[list[Tensor], list[Tensor]] = ([], [])\n"
        "        batch = batch | {'regions': batch['regions'][..., :1].expand_as(batch['regions'])}\n",
        _STEP_TESTS,
    ),
    Mutant(
        "target in eval mode",
        _STATE,
        "        self.network.train()\n",
        "        self.network.train()\n        self.network.target.eval()\n",
        _STEP_TESTS,
    ),
    Mutant(
        "EMA without buffers",
        _EMA,
        "list(target.buffers()), list(online.buffers())",
        "list(target.buffers()), list(target.buffers())",
        "cyborgs/optimization",
    ),
    Mutant(
        "EMA schedule reversed",
        _SCHEDULES,
        "return 1 - slack * (1 + math.cos(math.pi * step / steps)) / 2",
        "return 1 - slack * (1 - math.cos(math.pi * step / steps)) / 2",
        "cyborgs/optimization",
    ),
    Mutant(
        "projector output with bias",
        _SIAMESE,
        "nn.Linear(hidden, outputs, bias=False)",
        "nn.Linear(hidden, outputs)",
        "cyborgs/networks",
    ),
    Mutant(
        "LARS on batch-norm",
        _OPTIMIZERS,
        'groups[1]["adapt"] = False',
        'groups[1]["adapt"] = True',
        "cyborgs/optimization",
    ),
    Mutant(
        "decay on biases",
        _OPTIMIZERS,
        '{"params": others, "weight_decay": 0.0}',
        '{"params": others, "weight_decay": weight_decay}',
        "cyborgs/optimization",
    ),
    Mutant(
        "lr warm-up off by one step",
        _SCHEDULES,
        "return peak * (step + 1) / warmup_steps",
        "return peak * step / warmup_steps",
        "cyborgs/optimization",
    ),
    Mutant(
        "negatives not gathered",
        _STEP,
        "            ).gathered(self._world)\n",
        "            )\n",
        "cyborgs/training/test_shared_steps.py",
    ),
    Mutant(
        "gradient through prototypes",
        _VMF_STEP,
        "Clustering(c.prototypes, c.assignments[part])",
        "Clustering(c.prototypes * (1 + (m := online[0].sum()) - m.detach()), c.assignments[part])",
        _VMF_STEP_TESTS,
    ),
    Mutant(
        "vMF joining at t % M == 1",
        "stages/build.py",
        "epoch % every == 0",
        "epoch % every == 1",
        "stages/test_pipeline.py",
    ),
    Mutant(
        "bootstrap after instead of before the epoch",
        "schemas/plan.py",
        "range(every * (first // every + 1), schedule.epochs, every)",
        "range(every * (first // every + 1) + 1, schedule.epochs, every)",
        "schemas/test_plan.py",
    ),
]

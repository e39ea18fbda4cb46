"""Protocol voc07-svm (Table 1, appendix B): a linear SVM per class on frozen features, mAP.

The SVM's own settings are those of the benchmark that the paper's numbers come from (Goyal et al. 2019): squared hinge,
positives weighing twice. Axes: P photographs, D dimensions, L classes.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from cyborgs.evaluation.average_precision import average_precision
from cyborgs.evaluation.frozen import Figures, Samples, frozen, square_features
from cyborgs.networks.backbone import Backbone
from cyborgs.random_streams import stream_seed

POOL = 2
"""Cells along each side of the pooled map: 2 x 2 x 2048 = 8192 numbers in ResNet-50."""


def voc07_svm(
    backbone: Backbone,
    train: Samples[Image.Image],
    train_labels: NDArray[np.int8],
    test: Samples[Image.Image],
    test_labels: NDArray[np.int8],
    *,
    classes: Sequence[str],
    resize: int,
    crop: int,
    costs: Sequence[float],
    folds: int,
    seed: int,
) -> Figures:
    """Mean average precision in per cent over the classes that both splits have enough labels for.

    Args:
        train_labels, test_labels: (P, L) 1 present, -1 absent, 0 ignored.
        costs: C to choose from, by mean average precision over `folds` parts of the training split.
    """
    with frozen(backbone):
        learnt = square_features(backbone, train, resize=resize, crop=crop, pool=POOL).numpy()
        measured = square_features(backbone, test, resize=resize, crop=crop, pool=POOL).numpy()
    return svm_map(learnt, train_labels, measured, test_labels, classes=classes, costs=costs, folds=folds, seed=seed)


def svm_map(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int8],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int8],
    *,
    classes: Sequence[str],
    costs: Sequence[float],
    folds: int,
    seed: int,
) -> Figures:
    """The protocol from features on: (P, D) float32 with (P, L) labels."""
    values: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for number, name in enumerate(classes):
        labels, true = train_labels[:, number], test_labels[:, number]
        fewest = min((labels == 1).sum(), (labels == -1).sum())
        if fewest < folds:
            skipped[f"class {name}"] = f"{fewest} photographs on one side, {folds} folds need {folds}"
            continue
        if not (true == 1).any():
            skipped[f"class {name}"] = "no positive photograph to measure"
            continue
        counted = labels != 0
        features, known = train[counted], labels[counted]
        best = max(costs, key=lambda cost: _cross_validate(features, known, cost, folds=folds, seed=seed))
        machine = _fit(features, known, best, seed=seed)
        values[f"ap_{name}"] = 100 * average_precision(machine.decision_function(test), true)
    if values:
        values = {"map": float(np.mean(list(values.values()))), "classes": float(len(values)), **values}
    return Figures(values, skipped)


def _cross_validate(
    features: NDArray[np.float32], labels: NDArray[np.int8], cost: float, *, folds: int, seed: int
) -> float:
    parts = StratifiedKFold(folds, shuffle=True, random_state=_state("folds", seed))
    scores = []
    for learnt, held in parts.split(features, labels):
        machine = _fit(features[learnt], labels[learnt], cost, seed=seed)
        scores.append(average_precision(machine.decision_function(features[held]), labels[held]))
    return float(np.mean(scores))


def _fit(features: NDArray[np.float32], labels: NDArray[np.int8], cost: float, *, seed: int) -> LinearSVC:
    machine = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=_state("svm", seed))
    with warnings.catch_warnings():
        # At its last iteration a large C is as near as the benchmark, which sets the same limit, takes it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(features, labels)


def _state(name: str, seed: int) -> int:
    return stream_seed("voc07-svm", name, seed) % 2**32

"""Average precision against a worked example and against the definition, threshold by threshold."""

from itertools import pairwise

import numpy as np
import pytest

from cyborgs.evaluation.average_precision import average_precision


def test_a_worked_example() -> None:
    """Ranks: hit, miss, hit, hit, miss. Precision at the hits is 1, 2/3, 3/4; made to fall: 1, 3/4, 3/4.

    Each hit adds a recall of 1/3, so the area is (1 + 3/4 + 3/4) / 3 = 5/6.
    """
    scores = np.array([0.2, 0.9, 0.8, 0.7, 0.6])
    labels = np.array([-1, 1, -1, 1, 1])
    assert average_precision(scores, labels) == pytest.approx(5 / 6)


def test_perfect_ranking_is_1_and_ignored_photographs_do_not_count() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert average_precision(scores, np.array([1, 1, -1, -1, -1])) == 1
    assert average_precision(scores, np.array([0, 1, 1, 0, -1])) == 1


def test_the_definition_at_every_recall() -> None:
    """Area under the largest precision at that recall or a higher one, cut by cut."""
    random = np.random.default_rng(0)
    for _ in range(50):
        scores, labels = random.permutation(30).astype(float), random.choice([-1, 0, 1], 30)
        if not (labels == 1).any():
            continue
        counted = labels != 0
        points = []
        for threshold in scores[counted]:
            chosen = counted & (scores >= threshold)
            hits = (labels[chosen] == 1).sum()
            points.append((hits / (labels == 1).sum(), hits / chosen.sum()))
        recalls = sorted({recall for recall, _ in points} | {0.0})
        area = sum(
            (high - low) * max(precision for recall, precision in points if recall >= high)
            for low, high in pairwise(recalls)
        )
        assert average_precision(scores, labels) == pytest.approx(area)


def test_without_a_positive_there_is_none() -> None:
    with pytest.raises(ValueError, match="no positives"):
        average_precision(np.zeros(3), np.array([-1, 0, -1]))

"""Average precision of a ranking, as PASCAL VOC measures it since 2010 and the VOC07 SVM benchmark does."""

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Area under the precision-recall curve after precision was made to fall: max over all higher recalls.

    Equal scores keep the order in which they are given.

    Args:
        scores: (P,), higher is more likely.
        labels: (P,) 1 positive, -1 negative, 0 ignored (VOC's "difficult").

    Returns:
        0 to 1.

    Raises:
        ValueError: there is no positive.
    """
    counted = labels != 0
    scores, labels = scores[counted], labels[counted]
    positives = int((labels == 1).sum())
    if not positives:
        raise ValueError("no positives: average precision is not defined")
    hits = (labels[np.argsort(-scores, kind="stable")] == 1).astype(np.float64)
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((falling * hits).sum() / positives)

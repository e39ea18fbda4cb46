"""LVIS' average precision, by its own API: only classes that were looked for on a photograph count there."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cyborgs.transfer.object_scores import Kind, of_kind

_NAMES = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
    "APr": "ap_rare",
    "APc": "ap_common",
    "APf": "ap_frequent",
}


def lvis_precisions(truth: dict[str, Any], detections: Sequence[dict[str, Any]], kind: Kind) -> dict[str, float]:
    """LVIS' nine scores in per cent; one for which there is no object is left out.

    Args:
        truth: a json of LVIS v1.
        detections: COCO's results: image_id, category_id, score, and bbox or segmentation.

    Raises:
        ImportError: the package lvis is not installed.
    """
    with _float_of_old():
        from lvis import LVIS, LVISEval, LVISResults

        if not detections:
            return dict.fromkeys(_NAMES.values(), 0.0)
        # The API reads files, and writes into whatever else it is given.
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / "truth.json", Path(folder) / "found.json"]
            for file, content in zip(files, (truth, of_kind(detections, kind)), strict=True):
                file.write_text(json.dumps(content))
            known = LVIS(str(files[0]))
            scores = LVISEval(known, LVISResults(known, str(files[1])), kind)
        scores.run()
    return {name: 100 * float(scores.results[key]) for key, name in _NAMES.items() if scores.results[key] >= 0}


@contextmanager
def _float_of_old() -> Iterator[None]:
    """lvis 0.5.3, the last release, says np.float, which numpy has dropped."""
    if hasattr(np, "float"):
        yield
        return
    np.float = float  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del np.float  # type: ignore[attr-defined]

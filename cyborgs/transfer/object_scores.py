"""COCO's average precision of boxes and masks, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

Kind = Literal["bbox", "segm"]
_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_MASK_SHARE = 0.5
"""A pixel belongs to an object that is at least so likely to cover it."""


def average_precisions(truth: dict[str, Any], detections: Sequence[dict[str, Any]], kind: Kind) -> dict[str, float]:
    """COCO's six scores in per cent; one for which there is no object is left out.

    Args:
        truth: a COCO json of instances.
        detections: COCO's results: image_id, category_id, score, and bbox or segmentation.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        # pycocotools takes no empty list.
        found = known.loadRes(of_kind(detections, kind)) if detections else COCO()
        scores = COCOeval(known, found, kind)
        scores.params.imgIds = sorted(known.imgs)
        scores.params.catIds = sorted(known.cats)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return {name: 100 * float(each) for name, each in zip(_NAMES, scores.stats, strict=False) if each >= 0}


def of_kind(detections: Sequence[dict[str, Any]], kind: Kind) -> list[dict[str, Any]]:
    """Without the other shape: an object whose box is given would have the box's area for its mask's."""
    other = "bbox" if kind == "segm" else "segmentation"
    return [{key: value for key, value in each.items() if key != other} for each in detections]


def as_results(
    output: dict[str, Tensor], *, image_id: int, categories: Sequence[int], masks: bool
) -> list[dict[str, Any]]:
    """What a torchvision detector says of a photograph, as COCO's results.

    Args:
        output: boxes (N, 4), labels (N,) from 1, scores (N,), and masks (N, 1, H, W) where there are any.
        categories: class from 1 on -> the data set's own number.
    """
    boxes = output["boxes"].float().cpu()
    sizes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    found = [
        {"image_id": image_id, "category_id": categories[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(sizes, output["labels"].tolist(), output["scores"].tolist(), strict=True)
    ]
    if masks:
        for each, mask in zip(found, output["masks"], strict=True):
            inside = np.asfortranarray((mask[0] >= _MASK_SHARE).cpu().numpy().astype(np.uint8))
            coded = coder.encode(inside)
            each["segmentation"] = {"size": list(coded["size"]), "counts": coded["counts"].decode()}
    return found

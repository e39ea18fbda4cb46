"""COCO's and LVIS' scores: equal to their own libraries by hand on the same detections, from files."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cyborgs.transfer.classifiers import hits
from cyborgs.transfer.object_scores import Kind, as_results, average_precisions

SIZE = (60, 80)


def run_lengths(corners: list[int]) -> dict[str, Any]:
    coded = coder.merge(coder.frPyObjects([corners], *SIZE))
    return {"size": list(SIZE), "counts": coded["counts"].decode()}


def truth(random: np.random.Generator) -> dict[str, Any]:
    annotations = []
    for number in range(40):
        left, top, width, height = (int(n) for n in random.integers([0, 0, 10, 10], [40, 30, 40, 30]))
        corners = [left, top, left + width, top, left + width, top + height, left, top + height]
        annotations.append({
            "id": number + 1, "image_id": number % 8 + 1, "category_id": 5 if number % 3 else 9,
            "bbox": [left, top, width, height], "area": width * height, "iscrowd": int(number % 11 == 0),
            "segmentation": run_lengths(corners),
        })  # fmt: skip
    return {
        "images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, 10)],
        "annotations": annotations,
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "car"}],
    }


def outputs(known: dict[str, Any], random: np.random.Generator) -> list[tuple[int, dict[str, torch.Tensor]]]:
    """What a detector might say: true boxes moved a little, some of another class, some made up."""
    found = []
    for image in known["images"]:
        own = [each for each in known["annotations"] if each["image_id"] == image["id"]]
        boxes, labels, masks = [], [], []
        for each in own:
            left, top, width, height = each["bbox"]
            shift = random.integers(-4, 5, 2)
            box = np.clip([left + shift[0], top + shift[1], left + shift[0] + width, top + shift[1] + height], 0, 80)
            boxes.append(box)
            labels.append(1 + int((each["category_id"] == 9) ^ (random.random() < 0.2)))
            mask = np.zeros(SIZE, np.float32)
            mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 0.9
            masks.append(mask[None])
        found.append((image["id"], {
            "boxes": torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(random.random(len(labels)), dtype=torch.float32),
            "masks": torch.tensor(np.array(masks)).reshape(-1, 1, *SIZE),
        }))  # fmt: skip
    return found


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_average_precision_is_pycocotools_by_hand(kind: Kind, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    known = truth(random)
    detections = [
        each
        for number, output in outputs(known, random)
        for each in as_results(output, image_id=number, categories=[5, 9], masks=True)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(known))
    own = [
        {k: v for k, v in each.items() if k != ("segmentation" if kind == "bbox" else "bbox")} for each in detections
    ]
    (tmp_path / "found.json").write_text(json.dumps(own))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(tmp_path / "truth.json"))
        scores = COCOeval(reference, reference.loadRes(str(tmp_path / "found.json")), kind)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    found = average_precisions(copy.deepcopy(known), detections, kind)
    assert 5 < found["ap"] < 95
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    expected = {name: 100 * each for name, each in zip(names, scores.stats, strict=False) if each >= 0}
    assert found == pytest.approx(expected)
    assert {"ap_small", "ap_medium"} <= found.keys()
    assert average_precisions(copy.deepcopy(known), [], kind)["ap"] == 0


def test_boxes_and_masks_as_results() -> None:
    masks = torch.zeros(1, 1, 4, 6)
    masks[0, 0, 1:3, 2:5] = 0.6
    output = {
        "boxes": torch.tensor([[2.0, 1, 5, 3]]),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.5]),
        "masks": masks,
    }
    (found,) = as_results(output, image_id=7, categories=[10, 20], masks=True)
    assert (found["image_id"], found["category_id"], found["bbox"], found["score"]) == (7, 20, [2, 1, 3, 2], 0.5)
    decoded = coder.decode(found["segmentation"])
    assert np.array_equal(decoded.astype(bool), masks[0, 0].numpy() > 0)
    json.dumps(found)


def test_lvis_scores_count_no_class_that_nobody_looked_for() -> None:
    pytest.importorskip("lvis", reason="the optional package lvis is not installed")
    from cyborgs.transfer.lvis_scores import lvis_precisions

    known = truth(np.random.default_rng(2))
    for each in known["annotations"]:
        each["iscrowd"] = 0
    shown: dict[int, set[int]] = {image["id"]: set() for image in known["images"]}
    for each in known["annotations"]:
        shown[each["image_id"]].add(each["category_id"])
    for image in known["images"]:
        image["neg_category_ids"], image["not_exhaustive_category_ids"] = [], []
    for category in known["categories"]:
        category["frequency"] = "f"
    kept = ("image_id", "category_id", "bbox", "segmentation")
    perfect = [{"score": 0.9, **{key: each[key] for key in kept}} for each in known["annotations"]]
    lonely = next(number for number, classes in shown.items() if 9 not in classes)
    wrong = {"image_id": lonely, "category_id": 9, "bbox": [1, 1, 20, 20], "score": 0.99}
    assert lvis_precisions(copy.deepcopy(known), perfect, "bbox")["ap"] == pytest.approx(100)
    assert lvis_precisions(copy.deepcopy(known), perfect, "segm")["ap_frequent"] == pytest.approx(100)
    assert lvis_precisions(copy.deepcopy(known), [*perfect, wrong], "bbox")["ap"] == pytest.approx(100)
    known["images"][lonely - 1]["neg_category_ids"] = [9]
    assert lvis_precisions(copy.deepcopy(known), [*perfect, wrong], "bbox")["ap"] < 100
    assert lvis_precisions(known, [], "bbox")["ap"] == 0


def test_hits_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.8, 0.1, 0.3]])
    assert hits(scores, torch.tensor([1, 2]), (1, 2)) == [1, 2]
    assert hits(scores, torch.tensor([0, 1]), (1, 5)) == [0, 2]

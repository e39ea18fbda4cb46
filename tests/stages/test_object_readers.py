"""Layouts that the fine-tuning protocols read: boxes, years of VOC, Cityscapes' ids, LVIS' names, lists of ImageNet."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import DataError
from stages.readers.cityscapes import cityscapes
from stages.readers.coco_objects import coco_objects
from stages.readers.image_folder import image_folder
from stages.readers.samples import random_share
from stages.readers.voc import CLASSES
from stages.readers.voc_objects import voc_objects
from tests.convert_coco import to_image_folder, to_lvis, to_voc


def test_coco_boxes_are_the_annotated_ones_and_empty_photographs_can_take_part(coco: Path) -> None:
    tree = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    split = coco_objects(coco, "val2017", empty=True)
    assert len(split.samples) == 14
    for place, name in enumerate(split.samples.items):
        (image,) = [image for image in tree["images"] if image["file_name"] == name]
        own = [a["bbox"] for a in tree["annotations"] if a["image_id"] == image["id"]]
        assert split.samples[place].boxes == [(x, y, x + w, y + h) for x, y, w, h in own]
    assert len(split.truth()["images"]) == 14
    few = coco_objects(coco, "val2017").of([0, 3])
    truth = few.truth()
    assert [image["id"] for image in truth["images"]] == [0, 3]
    assert {annotation["image_id"] for annotation in truth["annotations"]} == {0, 3}
    assert truth["categories"] == tree["categories"]


def test_boxes_without_masks_and_masks_without_boxes(coco: Path, tmp_path: Path) -> None:
    shutil.copytree(coco, tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    boxes = [list(annotation["bbox"]) for annotation in tree["annotations"][:2]]
    del tree["annotations"][0]["segmentation"]
    del tree["annotations"][1]["bbox"]
    file.write_text(json.dumps(tree))
    with_shapes = coco_objects(tmp_path / "coco", "val2017")
    assert with_shapes.left_out["objects without a segmentation in instances_val2017.json"] == 1
    (found,) = with_shapes.samples[0].boxes
    left, top, width, height = boxes[1]
    assert found == pytest.approx((left, top, left + width, top + height), abs=1)
    with pytest.raises(DataError, match="annotation 2 has no readable bbox"):
        _ = coco_objects(tmp_path / "coco", "val2017", shapes=False).samples[0]


def test_lvis_names_photographs_by_their_address(coco: Path, tmp_path: Path) -> None:
    to_lvis(coco, tmp_path)
    split = coco_objects(tmp_path, "val", lvis=True)
    assert split.samples.items[0] == "val2017/000000000000.jpg"
    assert split.samples[0].categories == coco_objects(coco, "val2017").samples[0].categories
    truth = split.truth()
    assert truth["categories"][0]["frequency"] == "f"
    assert truth["images"][0]["neg_category_ids"]


def test_voc_boxes_count_from_one_and_years_stand_together(coco: Path, tmp_path: Path) -> None:
    to_voc(coco, tmp_path)
    devkit = tmp_path / "VOCdevkit"
    shutil.copytree(devkit / "VOC2007", devkit / "VOC2012", symlinks=True)
    both = voc_objects(tmp_path, ["VOC2007/trainval", "VOC2012/trainval"])
    assert len(both.samples) == 24
    assert both.samples.items[0].startswith("VOC2007/") and both.samples.items[-1].startswith("VOC2012/")
    photograph, objects = both.samples[0]
    annotated = devkit / "VOC2007" / "Annotations" / "000000000000.xml"
    text = annotated.read_text()
    first = objects[0]
    assert f"<xmin>{int(first.box[0]) + 1}</xmin>" in text and f"<xmax>{int(first.box[2])}</xmax>" in text
    assert both.sizes["VOC2007/000000000000"] == photograph.size
    assert CLASSES[first.category] in ("cat", "car", "tvmonitor")
    assert voc_objects(devkit, ["VOC2007/test"]).truth()["images"][0]["width"] == 96


def test_difficult_objects_count_neither_way(coco: Path, tmp_path: Path) -> None:
    """All objects difficult but one: finding it alone is perfect, and so is finding difficult ones too."""
    from cyborgs.transfer.object_scores import average_precisions

    to_voc(coco, tmp_path)
    split = voc_objects(tmp_path, ["VOC2007/test"]).of([0])
    (name,) = split.samples.items
    from dataclasses import replace

    split.objects[name] = [replace(each, difficult=number > 0) for number, each in enumerate(split.objects[name])]
    truth = split.truth()
    found = [
        {"image_id": 1, "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9 - 0.1 * n}
        for n, a in enumerate(truth["annotations"])
    ]
    assert average_precisions(truth, found, "bbox")["ap"] == pytest.approx(100)
    assert average_precisions(truth, found[:1], "bbox")["ap"] == pytest.approx(100)
    wrong = {"image_id": 1, "category_id": found[0]["category_id"], "bbox": [0, 0, 3, 3], "score": 0.99}
    assert average_precisions(truth, [*found, wrong], "bbox")["ap"] < 100


def test_cityscapes_ids_become_the_nineteen_classes(tmp_path: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / kind / "val" / "ulm").mkdir(parents=True)
    Image.new("RGB", (40, 32)).save(tmp_path / "leftImg8bit/val/ulm/ulm_000000_leftImg8bit.png")
    ids = np.zeros((32, 40), np.uint8)
    ids[0, :6] = [7, 33, 26, 34, 29, 255]
    Image.fromarray(ids).save(tmp_path / "gtFine/val/ulm/ulm_000000_gtFine_labelIds.png")
    split = cityscapes(tmp_path, "val")
    _, labels = split.samples[0]
    assert labels[0, :6].tolist() == [0, 18, 13, -1, -1, -1]
    assert (labels[1:] == -1).all()
    (tmp_path / "gtFine/val/ulm/ulm_000000_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match="ulm_000000_gtFine_labelIds.png, which is missing"):
        cityscapes(tmp_path, "val")


def test_a_list_of_photographs_with_and_without_folders(coco: Path, tmp_path: Path) -> None:
    to_image_folder(coco, tmp_path)
    whole, _, names = image_folder(tmp_path, "train")
    wanted = whole.photographs[::3]
    plain, with_class = tmp_path / "plain.txt", tmp_path / "class.txt"
    plain.write_text("".join(f"{path.name}\n" for path in wanted))
    with_class.write_text("".join(f"{path.parent.name}/{path.name} 7\n" for path in wanted))
    for file in (plain, with_class):
        listed, classes, _ = image_folder(tmp_path, "train", names, listed=file)
        assert listed.photographs == wanted
        assert [names[number] for number in classes] == [path.parent.name for path in wanted]
    plain.write_text("nobody.JPEG\n")
    with pytest.raises(DataError, match=r"plain\.txt names nobody\.JPEG, which is in none"):
        image_folder(tmp_path, "train", listed=plain)


def test_a_larger_share_of_labels_holds_a_smaller_one() -> None:
    shares = [set(random_share(200, share, seed=3)) for share in (0.01, 0.1, 0.5, 1.0)]
    assert [len(share) for share in shares] == [2, 20, 100, 200]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert random_share(200, 0.1, seed=4) != random_share(200, 0.1, seed=3)
    assert random_share(50, 0.001, seed=0)
    classes = [number % 4 for number in range(200)]
    of_classes = random_share(200, 0.1, seed=3, classes=classes)
    assert [sum(classes[row] == number for row in of_classes) for number in range(4)] == [5, 5, 5, 5]

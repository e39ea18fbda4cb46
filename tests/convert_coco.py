"""A data set in COCO's layout in those of other ones, for trying the protocols: VOC 2007, label maps, ImageFolder.

    python -m tests.convert_coco COCO_DIR OUT_DIR

writes OUT_DIR/voc/VOCdevkit/VOC2007, OUT_DIR/label-maps, OUT_DIR/image-folder, OUT_DIR/cityscapes and OUT_DIR/lvis.
Its classes are COCO's: VOC's twenty by their names; pixels of the smallest object there, the rest unlabelled; a
photograph's class is the kind of its largest object, among the kinds that both splits show; Cityscapes' are the seven
that both have; and of LVIS' photographs every class was looked for.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from stages.readers.coco_objects import coco_objects
from stages.readers.voc import CLASSES

SPLITS = {"train2017": "trainval", "val2017": "test"}
"""COCO's splits under VOC's names."""
VOID = 255
_IN_VOC = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor",
}


def convert(coco: Path, out: Path) -> None:
    """Write all three."""
    to_voc(coco, out / "voc")
    to_label_maps(coco, out / "label-maps")
    to_image_folder(coco, out / "image-folder")
    to_cityscapes(coco, out / "cityscapes")
    to_lvis(coco, out / "lvis")


def to_voc(coco: Path, out: Path) -> Path:
    """VOCdevkit/VOC2007 with trainval and test; crowds are difficult objects."""
    below = out / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (below / name).mkdir(parents=True, exist_ok=True)
    for split, voc_split in SPLITS.items():
        names = []
        for path, annotations, kinds in _photographs(coco, split):
            names.append(path.stem)
            root = ElementTree.Element("annotation")
            size = ElementTree.SubElement(root, "size")
            with Image.open(path) as photograph:
                for side, pixels in zip(("width", "height"), photograph.size, strict=True):
                    ElementTree.SubElement(size, side).text = str(pixels)
            for annotation in annotations:
                name = kinds[annotation["category_id"]]["name"]
                name = _IN_VOC.get(name, name)
                if name in CLASSES:
                    entry = ElementTree.SubElement(root, "object")
                    ElementTree.SubElement(entry, "name").text = name
                    ElementTree.SubElement(entry, "difficult").text = str(annotation["iscrowd"])
                    left, top, width, height = annotation["bbox"]
                    corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
                    box = ElementTree.SubElement(entry, "bndbox")
                    for side, place in corners.items():
                        ElementTree.SubElement(box, side).text = str(max(1, round(place)))
            ElementTree.ElementTree(root).write(below / "Annotations" / f"{path.stem}.xml")
            _link(path, below / "JPEGImages" / path.name)
        (below / "ImageSets" / "Main" / f"{voc_split}.txt").write_text("\n".join(sorted(names)) + "\n")
    return out


def to_label_maps(coco: Path, out: Path) -> Path:
    """images/<split> and annotations/<split>, values are COCO's category ids, 255 where there is no object."""
    for split in SPLITS:
        objects = coco_objects(coco, split)
        for kind in ("images", "annotations"):
            (out / kind / split).mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(objects.photographs):
            each = objects.samples[number]
            labels = np.full(each.crowd.shape, VOID, np.uint8)
            for i in sorted(range(len(each.masks)), key=lambda i: -int(each.masks[i].sum())):
                labels[each.masks[i]] = each.categories[i]
            Image.fromarray(labels).save(out / "annotations" / split / f"{path.stem}.png")
            _link(path, out / "images" / split / path.name)
    return out


def to_image_folder(coco: Path, out: Path) -> Path:
    """train/<kind> and val/<kind> by COCO's supercategories."""
    found: dict[str, dict[str, list[Path]]] = {}
    for split in SPLITS:
        kinds_of = found.setdefault(split, defaultdict(list))
        for path, annotations, kinds in _photographs(coco, split):
            largest = max(annotations, key=lambda annotation: annotation["area"])
            kinds_of[kinds[largest["category_id"]]["supercategory"]].append(path)
    shared = set.intersection(*(set(kinds) for kinds in found.values()))
    for split, kinds_of in found.items():
        for kind in shared:
            folder = out / split.removesuffix("2017") / kind
            folder.mkdir(parents=True, exist_ok=True)
            for path in kinds_of[kind]:
                _link(path, folder / path.name)
    listed = sorted((out / "train").rglob("*.jpg"))[::2]
    (out / "1percent.txt").write_text("".join(f"{path.name}\n" for path in listed))
    return out


def to_cityscapes(coco: Path, out: Path) -> Path:
    """leftImg8bit and gtFine of one city; the larger object lies below the smaller, the rest is unlabelled (0)."""
    ids = {"person": 24, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33}
    for split in SPLITS:
        objects = coco_objects(coco, split)
        folders = [out / kind / split.removesuffix("2017") / "town" for kind in ("leftImg8bit", "gtFine")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(objects.photographs):
            each = objects.samples[number]
            labels = np.zeros(each.crowd.shape, np.uint8)
            for i in sorted(range(len(each.masks)), key=lambda i: -int(each.masks[i].sum())):
                labels[each.masks[i]] = ids.get(objects.names[each.categories[i]], 0)
            if labels.any():
                each.photograph.save(folders[0] / f"{path.stem}_leftImg8bit.png")
                Image.fromarray(labels).save(folders[1] / f"{path.stem}_gtFine_labelIds.png")
    return out


def to_lvis(coco: Path, out: Path) -> Path:
    """annotations/lvis_v1_{train,val}.json beside train2017 and val2017."""
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        _link(coco / split, out / split)
        tree = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
        kinds = [category["id"] for category in tree["categories"]]
        shown: dict[int, set[int]] = defaultdict(set)
        tree["annotations"] = [each for each in tree["annotations"] if not each["iscrowd"]]
        for each in tree["annotations"]:
            shown[each["image_id"]].add(each["category_id"])
        for image in tree["images"]:
            name = image.pop("file_name")
            image["coco_url"] = f"http://images.cocodataset.org/{split}/{name}"
            image["neg_category_ids"] = [kind for kind in kinds if kind not in shown[image["id"]]]
            image["not_exhaustive_category_ids"] = []
        for category in tree["categories"]:
            category["frequency"] = "f"
        (out / "annotations" / f"lvis_v1_{split.removesuffix('2017')}.json").write_text(json.dumps(tree))
    return out


def _photographs(coco: Path, split: str) -> list[tuple[Path, list[dict[str, Any]], dict[int, dict[str, Any]]]]:
    """(photograph, its annotations, all categories) of those that are annotated."""
    tree = COCO(str(coco / "annotations" / f"instances_{split}.json"))
    wanted = [image for image in tree.dataset["images"] if tree.getAnnIds(imgIds=image["id"])]
    return [(coco / split / i["file_name"], tree.loadAnns(tree.getAnnIds(imgIds=i["id"])), tree.cats) for i in wanted]


def _link(path: Path, place: Path) -> None:
    if not place.exists():
        place.symlink_to(path.resolve())


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))

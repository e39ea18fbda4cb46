"""Published layouts: what is read, and the one line that says which file is missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from schemas.errors import DataError
from stages.readers.coco_objects import coco_objects
from stages.readers.image_folder import image_folder
from stages.readers.label_maps import bsds, label_maps
from stages.readers.samples import read_label_map, read_photograph
from stages.readers.voc import CLASSES, voc
from tests.convert_coco import to_image_folder, to_label_maps, to_voc
from tests.storage.samples import make_photographs


@pytest.fixture
def own(tmp_path: Path, coco: Path) -> Path:
    """The COCO data set and its conversions, to be damaged."""
    shutil.copytree(coco, tmp_path / "coco")
    to_voc(tmp_path / "coco", tmp_path / "voc")
    to_label_maps(tmp_path / "coco", tmp_path / "maps")
    to_image_folder(tmp_path / "coco", tmp_path / "folder")
    for kind in ("images", "ground_truth"):
        (tmp_path / "bsds" / kind / "val").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (8, 6)).save(tmp_path / f"bsds/images/val/{number}.jpg")
        for annotator in range(2 + number):
            labels = np.full((6, 8), 1, np.uint8)
            labels[:, annotator + 1 :] = 2
            Image.fromarray(labels).save(tmp_path / f"bsds/ground_truth/val/{number}_{annotator}.png")
    return tmp_path


def test_coco_objects_are_the_drawn_squares(coco: Path) -> None:
    split = coco_objects(coco, "val2017")
    tree = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    assert len(split.samples) == 12
    first = split.samples[0]
    assert first.categories == [a["category_id"] for a in tree["annotations"] if a["image_id"] == 0]
    for mask, annotation in zip(first.masks, tree["annotations"], strict=False):
        left, top, side, _ = annotation["bbox"]
        expected = np.zeros((64, 96), bool)
        expected[top : top + side, left : left + side] = True
        np.testing.assert_array_equal(mask, expected)
    assert split.names == {1: "cat", 2: "car", 3: "tv"}


def test_crowds_are_no_objects(own: Path) -> None:
    file = own / "coco" / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    crowd = tree["annotations"][0]
    crowd["iscrowd"] = 1
    crowd["segmentation"] = {"size": [64, 96], "counts": [0, 64 * 10, 64 * 86]}
    file.write_text(json.dumps(tree))
    first = coco_objects(own / "coco", "val2017").samples[0]
    assert len(first.masks) == 1
    assert first.crowd[:, :10].all()
    assert not first.crowd[:, 10:].any()


def test_voc_labels_say_present_absent_and_difficult(own: Path) -> None:
    _, labels = voc(own / "voc", "test")
    assert labels.shape == (12, 20)
    kinds = {"cat": 0, "car": 1, "tvmonitor": 2}
    for number in range(12):
        for name, kind in kinds.items():
            present = kind in (number % 3, (number + 1) % 3)
            assert labels[number, CLASSES.index(name)] == (1 if present else -1)
    annotation = own / "voc" / "VOCdevkit" / "VOC2007" / "Annotations" / "000000000000.xml"
    annotation.write_text(annotation.read_text().replace("<difficult>0", "<difficult>1", 1))
    _, changed = voc(own / "voc" / "VOCdevkit", "test")
    assert changed[0, CLASSES.index("cat")] == 0
    assert changed[0, CLASSES.index("car")] == 1


def test_label_maps_with_and_without_void(own: Path) -> None:
    split = label_maps(own / "maps", "val2017", void=255)
    photograph, labels = split.samples[0]
    assert labels.shape == (photograph.height, photograph.width)
    assert set(np.unique(labels).tolist()) == {-1, 1, 2}
    assert 255 in label_maps(own / "maps", "val2017", void=None).samples[0][1]


def test_coco_stuff_10k_lists_its_splits(own: Path) -> None:
    root = own / "maps"
    for kind in ("images", "annotations"):
        for path in (root / kind / "val2017").iterdir():
            shutil.copy(path, root / kind / path.name)
    (root / "imageLists").mkdir()
    (root / "imageLists" / "test.txt").write_text("000000000003\n000000000001\n")
    as_pictures = label_maps(root, "test", void=255)
    assert as_pictures.samples.items == ["000000000001", "000000000003"]
    # As published: classes from 1, 0 where nobody labelled.
    expected = [as_pictures.samples[number][1] for number in range(2)]
    for name, labels in zip(as_pictures.samples.items, expected, strict=True):
        (root / "annotations" / f"{name}.png").unlink()
        savemat(root / "annotations" / f"{name}.mat", {"S": (labels + 1).astype(np.uint16), "names": ["cat"]})
    published = label_maps(root, "test", void=255)
    assert all(-1 in labels for labels in expected)
    for number in range(2):
        np.testing.assert_array_equal(published.samples[number][1], expected[number])
    savemat(root / "annotations" / "000000000003.mat", {"something": 1})
    with pytest.raises(DataError, match=r"000000000003.mat is not one of COCO-Stuff 10k's files"):
        published.samples[1]


def test_objects_without_a_segmentation_are_counted_and_photographs_in_folders_are_found(own: Path) -> None:
    file = own / "coco" / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    whole = coco_objects(own / "coco", "val2017")
    objects = {name: len(whole.samples[place].masks) for place, name in enumerate(whole.samples.items)}
    for image in tree["images"]:
        folder = own / "coco" / "val2017" / "below"
        folder.mkdir(exist_ok=True)
        (folder.parent / image["file_name"]).rename(folder / image["file_name"])
        image["file_name"] = f"below/{image['file_name']}"
    tree["annotations"][0]["segmentation"] = []
    first = tree["annotations"][0]["image_id"]
    file.write_text(json.dumps(tree))
    split = coco_objects(own / "coco", "val2017")
    assert len(split.samples) == len(whole.samples)
    assert split.left_out == whole.left_out | {"objects without a segmentation in instances_val2017.json": 1}
    for place, name in enumerate(split.samples.items):
        fewer = int(Path(name).stem) == first
        assert len(split.samples[place].masks) == objects[Path(name).name] - fewer


def test_a_category_that_the_file_does_not_name(own: Path) -> None:
    file = own / "coco" / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    tree["annotations"][2]["category_id"] = 999
    file.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"annotation \d+ is of category 999, which .categories. does not name"):
        coco_objects(own / "coco", "val2017")


def test_bsds_annotators_as_pictures_and_as_published(own: Path) -> None:
    split = bsds(own / "bsds", "val")
    assert [len(split.samples[i][1]) for i in range(2)] == [2, 3]
    root = own / "published" / "data"
    (root / "images" / "val").mkdir(parents=True)
    (root / "groundTruth" / "val").mkdir(parents=True)
    for number in range(2):
        shutil.copy(own / f"bsds/images/val/{number}.jpg", root / "images" / "val")
        annotations = split.samples[number][1]
        cells = np.empty((1, len(annotations)), object)
        for place, labels in enumerate(annotations):
            cells[0, place] = {"Segmentation": labels.astype(np.uint16), "Boundaries": labels > 1}
        savemat(root / "groundTruth" / "val" / f"{number}.mat", {"groundTruth": cells})
    published = bsds(own / "published", "val")
    for number in range(2):
        for one, two in zip(split.samples[number][1], published.samples[number][1], strict=True):
            np.testing.assert_array_equal(one, two)


def test_image_folder_takes_from_each_class_in_turn(own: Path) -> None:
    split, classes, names = image_folder(own / "folder", "train", most=6)
    assert sorted(classes) == [0, 0, 1, 1, 2, 2]
    assert names == ["animal", "electronic", "vehicle"]
    assert [path.parent.name for path in split.photographs] == [names[c] for c in classes]


def missing(path: str) -> Callable[[Path], None]:
    def remove(own: Path) -> None:
        target = own / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    return remove


READ: dict[str, Callable[[Path], object]] = {
    "coco": lambda own: coco_objects(own / "coco", "val2017"),
    "voc": lambda own: voc(own / "voc", "test"),
    "maps": lambda own: label_maps(own / "maps", "val2017", void=255),
    "bsds": lambda own: bsds(own / "bsds", "val"),
    "folder": lambda own: image_folder(own / "folder", "val"),
}
LOST = [
    ("coco", "coco/annotations/instances_val2017.json"),
    ("coco", "coco/val2017"),
    ("coco", "coco/val2017/000000000005.jpg"),
    ("voc", "voc/VOCdevkit/VOC2007/ImageSets/Main/test.txt"),
    ("voc", "voc/VOCdevkit/VOC2007/JPEGImages/000000000003.jpg"),
    ("voc", "voc/VOCdevkit/VOC2007/Annotations/000000000003.xml"),
    ("voc", "voc/VOCdevkit/VOC2007"),
    ("maps", "maps/images"),
    ("maps", "maps/annotations/val2017"),
    ("bsds", "bsds/images/val"),
    ("bsds", "bsds/ground_truth/val"),
    ("folder", "folder/val"),
]


@pytest.mark.parametrize(("kind", "path"), LOST, ids=lambda value: value)
def test_the_message_names_what_is_missing(own: Path, kind: str, path: str) -> None:
    missing(path)(own)
    with pytest.raises(DataError) as caught:
        READ[kind](own)
    assert str(own / path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_without_any_labels_is_not_measured(own: Path) -> None:
    for path in (own / "maps" / "annotations" / "val2017").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="000000000000.png is missing, and all others are"):
        READ["maps"](own)
    for path in (own / "bsds" / "ground_truth" / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"0_0.png is missing, and all others are"):
        READ["bsds"](own)


def test_names_that_lead_out_of_the_folder(own: Path) -> None:
    (own / "voc" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text("../../../secret\n")
    with pytest.raises(DataError, match="leads out of the data folder"):
        READ["voc"](own)
    file = own / "coco" / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text().replace("000000000003.jpg", "../../secret.jpg"))
    with pytest.raises(DataError, match="leads out of the data folder"):
        READ["coco"](own)


def test_files_that_are_something_else(own: Path) -> None:
    (own / "coco" / "annotations" / "instances_val2017.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="not a COCO json of instances"):
        READ["coco"](own)
    (own / "voc" / "VOCdevkit" / "VOC2007" / "Annotations" / "000000000003.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="not an annotation of VOC"):
        READ["voc"](own)
    Image.new("RGB", (96, 64)).save(own / "maps" / "annotations" / "val2017" / "000000000000.png")
    with pytest.raises(DataError, match="a label map has one channel"):
        label_maps(own / "maps", "val2017", void=255).samples[0]
    Image.new("L", (5, 5)).save(own / "maps" / "annotations" / "val2017" / "000000000001.png")
    with pytest.raises(DataError, match="5 x 5 pixels, its photograph 96 x 64"):
        label_maps(own / "maps", "val2017", void=255).samples[1]


def test_a_class_that_training_lacks(own: Path) -> None:
    make_photographs(own / "folder" / "val" / "zebra", 1)
    _, _, names = image_folder(own / "folder", "train")
    with pytest.raises(DataError, match="zebra is a class that the training split does not have"):
        image_folder(own / "folder", "val", names)


def test_what_says_to_be_larger_than_any_photograph_is_not_decoded(own: Path) -> None:
    """A few bytes can stand for as many pixels as they like."""
    file = own / "maps" / "annotations" / "val2017" / "000000000000.png"
    Image.new("1", (60_000, 60_000)).save(file)
    assert file.stat().st_size < 600_000
    with pytest.raises(DataError, match=r"000000000000\.png: 60000 x 60000 pixels is more than"):
        read_label_map(file)
    with pytest.raises(DataError, match=r"000000000000\.png: 60000 x 60000 pixels is more than"):
        read_photograph(file)


def test_run_lengths_of_another_size_are_not_decoded(own: Path) -> None:
    file = own / "coco" / "annotations" / "instances_val2017.json"
    tree = json.loads(file.read_text())
    for annotation in tree["annotations"]:
        annotation["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12]}
    file.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"is of \[1000000, 1000000\] pixels, its photograph of"):
        coco_objects(own / "coco", "val2017").samples[0]

"""Masks drawn, compared and exported: what is on the pictures and in the files is what the store says."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from cli.main import main
from cyborgs.colours import label_colours
from cyborgs.evaluation.agreement import mask_agreement
from cyborgs.evaluation.mask_quality import at_size
from schemas.errors import ConfigError, DataError
from stages.mask_exports import export_masks
from stages.mask_pictures import compare_masks, match_labels, show_masks
from stages.run_masks import cycle_masks
from storage.masks import MaskRow, read_rows
from storage.run import Run, open_run, replace_record

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def run(tiny_run: Path) -> Run:
    return open_run(str(tiny_run))


def rows(run: Run, cycle: int) -> list[MaskRow]:
    return [row for _, row in read_rows(cycle_masks(run, cycle).store)]


def test_a_sheet_holds_photograph_masks_and_both(run: Run, tmp_path: Path) -> None:
    assert show_masks(run, 1, images=["5"], file=tmp_path / "sheet.png") == 1
    masks = cycle_masks(run, 1)
    photograph = masks.reader(5)
    width, height = photograph.size
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))[-height:]
    assert sheet.shape[1] == 3 * width + 2 * 4
    np.testing.assert_array_equal(sheet[:, :width], np.asarray(photograph))
    colours = label_colours()[at_size(masks.row(5).labels, height, width)]
    np.testing.assert_array_equal(sheet[:, width + 4 : 2 * width + 4], colours)
    mixed = (np.asarray(photograph).astype(int) + colours) / 2
    assert np.abs(sheet[:, 2 * width + 8 :] - mixed).max() <= 1


def test_photographs_are_chosen_by_name_or_row(run: Run) -> None:
    masks = cycle_masks(run, 0)
    name = masks.photographs[7].key
    assert masks.rows([name, "3"], most=8) == [7, 3]
    assert masks.rows(None, most=4) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="nobody.png"):
        masks.rows(["nobody.png"], most=8)
    with pytest.raises(ConfigError, match="99"):
        masks.rows(["99"], most=8)


def test_what_changed_most_comes_first(run: Run, tmp_path: Path) -> None:
    changes = compare_masks(run, 0, 1, images=[], file=tmp_path / "changes.png", most=3)
    before, after = rows(run, 0), rows(run, 1)
    expected = {row: mask_agreement(before[row].labels, after[row].labels) for row in range(18)}
    assert {change.row: change.agreement for change in changes} == expected
    assert [change.agreement for change in changes] == sorted(expected.values())
    assert (tmp_path / "changes.png").is_file()
    same = compare_masks(run, 1, 1, images=["2", "4"], file=None)
    assert [(change.row, change.agreement) for change in same] == [(2, 1.0), (4, 1.0)]


def test_regions_keep_their_colour_when_only_their_names_change() -> None:
    random = np.random.default_rng(0)
    reference = random.integers(0, 5, (6, 7)).astype(np.uint8)
    names = np.array([9, 200, 3, 0, 4], np.uint8)
    np.testing.assert_array_equal(match_labels(reference, names[reference]), reference)
    more = reference.copy()
    more[0, :3] = 77
    matched = match_labels(reference, more)
    assert len(np.unique(matched)) == len(np.unique(more))


def test_pictures_have_the_labels_at_the_photographs_size(run: Run, tmp_path: Path) -> None:
    assert export_masks(run, 1, "png", tmp_path / "png") == 18
    masks = cycle_masks(run, 1)
    for number, row in enumerate(rows(run, 1)):
        with Image.open(tmp_path / "png" / f"{masks.photographs[number].key}.png") as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.asarray(picture), at_size(row.labels, *row.image_size))
            label = int(row.labels[0, 0])
            assert picture.convert("RGB").getpixel((0, 0)) == tuple(label_colours()[label].tolist())


def test_arrays_are_the_stores_own(run: Run, tmp_path: Path) -> None:
    export_masks(run, 0, "npy", tmp_path / "npy")
    masks = cycle_masks(run, 0)
    for number, row in enumerate(rows(run, 0)):
        np.testing.assert_array_equal(np.load(tmp_path / "npy" / f"{masks.photographs[number].key}.npy"), row.labels)


def test_a_coco_json_gives_every_region_back(run: Run, tmp_path: Path) -> None:
    export_masks(run, 1, "coco", tmp_path / "masks.json")
    tree = COCO(str(tmp_path / "masks.json"))
    for number, row in enumerate(rows(run, 1)):
        labels = at_size(row.labels, *row.image_size)
        rebuilt = np.full(labels.shape, -1)
        for annotation in tree.loadAnns(tree.getAnnIds(imgIds=number)):
            mask = tree.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            assert (rebuilt[mask] == -1).all()
            rebuilt[mask] = annotation["label"]
        np.testing.assert_array_equal(rebuilt, labels)
    assert len(json.loads((tmp_path / "masks.json").read_text())["images"]) == 18


def test_photographs_that_have_moved_are_missed_with_the_command_that_mends_it(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    moved = open_run(str(tmp_path / "run"))
    replace_record(moved, moved.record.model_copy(update={"data": (str(tmp_path / "old"),)}), note={})
    with pytest.raises(DataError, match=r"old: no such folder; if they have moved, `cyborgs run --run .*run --data"):
        cycle_masks(open_run(str(tmp_path / "run")), 0)


def test_the_commands(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = str(tiny_run)
    show = ["masks", "show", url, "--cycle", "1", "--images", "0", "5", "-o", str(tmp_path / "sheet.png")]
    assert main(show) == 0
    assert "2 photographs" in capsys.readouterr().out
    assert main(["masks", "compare", url, "0", "1", "-o", str(tmp_path / "changes.jpg")]) == 0
    assert "of 18 photographs: mean 0." in capsys.readouterr().out
    assert main(["masks", "export", url, "--cycle", "0", "--format", "npy", "-o", str(tmp_path / "npy")]) == 0
    assert main(["masks", "export", url, "--cycle", "0", "--format", "npy", "-o", str(tmp_path / "npy")]) == 2
    assert "not empty" in capsys.readouterr().err
    for arguments, message in (
        (["masks", "show", url, "--cycle", "1", "-o", "sheet.pdf"], ".png or .jpg"),
        (["masks", "show", url, "--cycle", "9"], "cycles 0 to 1"),
        (["masks", "compare", url, "0", "9"], "cycles 0 to 1"),
        (["masks", "export", url, "--cycle", "0", "--format", "tiff", "-o", "x"], "choose from png, coco, npy"),
        (["masks", "export", url, "--cycle", "0", "--format", "coco", "-o", "x"], "FILE.json"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


def test_the_notebook_snippet_of_the_readme(tiny_run: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five lines, run as they stand: what they draw is the first photograph's map."""
    (snippet,) = (
        code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "imshow" in code
    )
    assert len([line for line in snippet.splitlines() if line]) == 5
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {}
    exec(snippet.replace("runs/mine", str(tiny_run)), names)
    drawn = names["plt"].gca().get_images()[0].get_array()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(drawn, rows(run, 1)[0].labels)
    names["plt"].close("all")  # type: ignore[attr-defined]

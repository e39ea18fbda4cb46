"""`cyborgs compare --plot`: what is drawn, and what may not be drawn together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import main
from schemas.errors import ConfigError, DataError
from schemas.results import ProtocolResult
from stages.label_curves import draw_label_curves, label_curves
from tests.stages.test_comparison import result


def measured(name: str, seed: int, labels: float, value: float) -> ProtocolResult:
    return result(name, seed, value, settings={"crop": 224, "labels": labels})


def results() -> list[ProtocolResult]:
    return [
        measured(name, seed, labels, value + seed)
        for name, gain in (("random", 0.0), ("mine", 5.0))
        for labels, value in ((0.1, 20.0 + gain), (1.0, 40.0 + gain))
        for seed in (0, 1)
    ]


def test_a_curve_for_each_weights_with_all_seeds() -> None:
    curves = label_curves(results())
    assert list(curves) == [("voc07-svm", "map")]
    by_name = {name.split("\0")[0]: curve for name, curve in curves["voc07-svm", "map"].items()}
    assert by_name == {"random": {0.1: [20, 21], 1.0: [40, 41]}, "mine": {0.1: [25, 26], 1.0: [45, 46]}}


def test_the_picture_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for number, each in enumerate(results()):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(each.model_dump_json())
    assert main(["compare", *map(str, files), "--plot", str(tmp_path / "labels.png")]) == 0
    assert capsys.readouterr().err == f"plot: {tmp_path}/labels.png\n"
    with Image.open(tmp_path / "labels.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 20
    assert main(["compare", *map(str, files), "--plot", str(tmp_path / "nowhere" / "x.png")]) == 2


def test_what_cannot_be_drawn_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two shares"):
        label_curves([measured("mine", 0, 1.0, 3.0)])
    other = result("mine", 0, 3.0, settings={"crop": 112, "labels": 0.1})
    with pytest.raises(DataError, match="different settings"):
        label_curves([*results(), other])
    with pytest.raises(DataError, match="given twice"):
        label_curves([*results(), results()[0]])
    with pytest.raises(ConfigError, match=r"ends in \.png, \.svg, \.pdf"):
        draw_label_curves(results(), tmp_path / "labels.txt")

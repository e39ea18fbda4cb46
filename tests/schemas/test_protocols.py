"""Settings of the protocols: files, the paper's defaults, and one line for each mistake."""

import tomllib
from pathlib import Path

import pytest

from schemas.architectures import ARCHITECTURES, layer_names
from schemas.errors import ConfigError
from schemas.loading import read_tree
from schemas.planned_protocols import FROZEN_NAMES, PROTOCOL_NAMES, TRANSFER_NAMES
from schemas.protocols import PROTOCOL_FOLDER, SETTINGS, load_protocol, mask_layer, protocol_name


def test_every_protocol_has_its_file_and_no_other_is_there() -> None:
    assert sorted(path.stem for path in PROTOCOL_FOLDER.iterdir()) == sorted(PROTOCOL_NAMES)
    data = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    assert "evaluation/*.yaml" in data["configs"], "an installed package has to find them"


@pytest.mark.parametrize("name", FROZEN_NAMES)
def test_the_files_repeat_the_defaults(name: str) -> None:
    protocol = protocol_name(name)
    assert load_protocol(protocol) == SETTINGS[protocol]()


@pytest.mark.parametrize("name", TRANSFER_NAMES)
def test_every_setting_of_a_recipe_has_its_source(name: str) -> None:
    """A comment on its line, or on the one before where two come from one place."""
    lines = (PROTOCOL_FOLDER / f"{name}.yaml").read_text().splitlines()
    recipe = [line for line in lines if line[0] not in " #" and not line.startswith(("smoke:", "train:", "test:"))]
    lacking = [line.split(":")[0] for line in recipe if " # " not in line]
    assert set(lacking) <= {"classes", "short_side", "window_stride"}
    assert any(line.startswith("# Settings: ") for line in lines)


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_smoke_lays_over_the_files(name: str) -> None:
    protocol = protocol_name(name)
    smoke = read_tree(PROTOCOL_FOLDER / f"{name}.yaml")["smoke"]
    small = load_protocol(protocol, smoke=True).model_dump(mode="json")
    assert {key: small[key] for key in smoke} == smoke
    assert load_protocol(protocol, ["seed=3", "threads=2"], smoke=True).model_dump(mode="json") == small | {
        "seed": 3,
        "threads": 2,
    }


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_every_setting_has_a_meaning(name: str) -> None:
    for field, info in SETTINGS[protocol_name(name)].model_fields.items():
        assert info.description, field


def test_the_papers_voc07_settings() -> None:
    """Appendix B: 3 folds over C of 0.01, 0.1, 1 and 10."""
    settings = load_protocol("voc07-svm").model_dump()
    assert (settings["folds"], settings["costs"]) == (3, (0.01, 0.1, 1.0, 10.0))


def test_the_papers_layer_in_every_network() -> None:
    for architecture in ARCHITECTURES:
        assert mask_layer(architecture) in layer_names(architecture)
    assert (mask_layer("resnet50"), mask_layer("resnet18")) == ("layer2.2", "layer2.1")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("cluster=3", "unknown setting cluster: did you mean clusters"),
        ("clusters=300", "clusters = 300"),
        ("split", "write it as name=value"),
        ("zebra=1", "unknown setting zebra; configs/evaluation/mask-quality.yaml lists them"),
    ],
)
def test_mistakes_are_one_line(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_protocol("mask-quality", [assignment])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

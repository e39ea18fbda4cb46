"""From a file and `--set` to a config."""

from pathlib import Path
from typing import Any

import pytest

from schemas.architectures import layer_names
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.loading import config_names, find_config, flatten, load_config

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_configs_to_start_from() -> None:
    assert {"demo", "small", "coco"} <= set(SHIPPED)
    assert config_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_loads(name: str) -> None:
    config = load_config(name)
    assert set(config.masks.layer) <= set(layer_names(config.network.architecture))


def test_coco_is_the_paper() -> None:
    found = flatten(load_config("coco"))
    free = ("placement.", "numerics.", "schedule.checkpoint_epochs")
    differing = {n for n, value in flatten(RunConfig()).items() if found[n] != value and not n.startswith(free)}
    assert differing == set()
    assert found["schedule.checkpoint_epochs"] == [5, 25, 50, 100, 200, 500, 800]


def test_a_file_is_read_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("seed: 1\ntrain: {temperature: 0.2}\n")
    changed = RunConfig.model_validate({"seed": 1, "train": {"temperature": 0.2}})
    assert load_config(str(path)) == changed
    assert find_config(str(path)) == path


def test_a_run_in_place_of_a_config_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"is a run: `cyborgs run --run {tmp_path}` goes on with it"):
        find_config(str(tmp_path))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_an_empty_file_is_the_paper(tmp_path: Path, text: str) -> None:
    (tmp_path / "my.yml").write_text(text)
    assert load_config(str(tmp_path / "my.yml")) == RunConfig()


ASSIGNMENTS: list[tuple[str, str, Any]] = [
    ("train.temperature=0.5", "train.temperature", 0.5),
    ("optimization.weight_decay=1e-4", "optimization.weight_decay", 1e-4),
    ("masks.clusters=[2, 9]", "masks.clusters", [2, 9]),
    ("masks.clusters=5", "masks.clusters", [5, 5]),
    ("masks.layer=layer3", "masks.layer", ["layer3"]),
    ("masks.layer=[layer2,layer3]", "masks.layer", ["layer2", "layer3"]),
    ("schedule={epochs: 50, warmup_epochs: 2}", "schedule.epochs", 50),
    ("seed=7", "seed", 7),
    (" seed = 7", "seed", 7),
    ("network.downsample=bilinear", "network.downsample", "bilinear"),
    ("network.start=/x/a=b.pth", "network.start", "/x/a=b.pth"),
    ("schedule.checkpoint_epochs=[]", "schedule.checkpoint_epochs", []),
    ("numerics.threads=null", "numerics.threads", None),
    ("placement.data=[a, b]", "placement.data", ["a", "b"]),
]


@pytest.mark.parametrize(("assignment", "name", "value"), ASSIGNMENTS, ids=lambda v: str(v)[:40])
def test_an_assignment_changes_its_setting_and_no_other(tmp_path: Path, assignment: str, name: str, value: Any) -> None:
    (tmp_path / "my.yaml").write_text("train: {regions: 3}\nseed: 2\n")
    before = flatten(load_config(str(tmp_path / "my.yaml")))
    after = flatten(load_config(str(tmp_path / "my.yaml"), [assignment]))
    assert after[name] == value
    group = assignment.split("=")[0].strip()
    assert {n for n in after if after[n] != before[n] and n != name and not n.startswith(f"{group}.")} == set()


def test_the_last_assignment_counts_and_groups_left_empty_take_them(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("train:\n")
    loaded = load_config(str(tmp_path / "my.yaml"), ["train.temperature=0.5", "train.temperature=0.6"])
    assert loaded.train.temperature == 0.6


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("train.temperature", "name=value"),
        ("=3", "name=value"),
        ("", "name=value"),
        ("train.temperature=[1", "YAML"),
        ("seed.x=3", "seed is a value"),
        ("train.temperature.x=3", "temperature is a value"),
        ("train.=3", "train"),
        ("train..temperature=3", "train"),
        ("train.temprature=3", "did you mean train.temperature?"),
        ("train.temperature=warm", "train.temperature = 'warm'"),
        ("train.temperature=", "train.temperature"),
        ("train=3", "train = 3"),
        ("masks.clusters=[2,300]", "300"),
        ("seed={a: 1}", "seed"),
    ],
)
def test_a_bad_assignment_is_one_line(tmp_path: Path, assignment: str, part: str) -> None:
    (tmp_path / "my.yaml").write_text("seed: 1\ntrain: {temperature: 0.2}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "my.yaml"), [assignment])
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "just words",
        "5",
        "a: [1",
        "a: b: c",
        "\t- x",
        "5: 3",
        "null: 3",
        "? [a, b]\n: 1",
        "seed: !!python/object:os.x {}",
    ],
)
def test_a_file_that_is_no_config_is_one_line_per_mistake(tmp_path: Path, text: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"my\.yaml") as caught:
        load_config(str(tmp_path / "my.yaml"))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"my\.yaml: not readable"):
        load_config(str(tmp_path / "my.yaml"))


@pytest.mark.parametrize("name", ["nonsense", "configs/nonsense"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="coco, demo") as caught:
        load_config(name)
    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(str(tmp_path / "none.yaml"))


def test_a_setting_given_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("train:\n  temperature: 0.1\n  regions: 3\n  temperature: 0.2\n")
    with pytest.raises(ConfigError, match=r"my\.yaml: not readable as YAML: temperature is given twice .*line 2"):
        load_config(str(tmp_path / "my.yaml"))


def test_aliases_that_multiply_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    """Ten names of nine each: 9^10 strings, were they ever written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "my.yaml").write_text("\n".join([*lines, "placement: {data: *a9}", "seed: *a9"]))
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "my.yaml"))
    assert max(len(line) for line in str(caught.value).splitlines()) < 2000


@pytest.mark.parametrize(
    "text", ["seed: 2001-99-99", "seed: " + "[" * 20_000, "seed: !!python/object/apply:os.getpid []"]
)
def test_yaml_that_breaks_its_parser_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "my.yaml").write_text(f"seed: {text}")
    with pytest.raises(ConfigError, match=r"my\.yaml: not readable as YAML") as caught:
        load_config(str(tmp_path / "my.yaml"))
    assert "\n" not in str(caught.value)

"""Studies as files: those of the repository, and what is refused; which steps their runs share."""

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.protocols import load_protocol
from schemas.study import STUDY_FOLDER, Study, load_study
from schemas.study_plan import planned_steps

FULL = sorted(path.stem for path in STUDY_FOLDER.glob("*.yaml") if not path.stem.endswith("-small"))
PLACES = ("COCO_ROOT", "VOC", "IMAGENET", "COCOSTUFF", "CITYSCAPES", "SAMPLE_DATA", "SUPERVISED")


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.setenv(f"CYBORGS_{name}", f"/data/{name.lower()}")


def test_every_table_and_figure_has_its_study_in_both_sizes() -> None:
    tables = [*(f"table2{letter}" for letter in "abcdefgh"), "table1", "fig5a", "fig5b", "tablec1", "tablec2"]
    assert sorted(FULL) == sorted(tables)
    for name in FULL:
        assert (STUDY_FOLDER / f"{name}-small.yaml").is_file()


@pytest.mark.parametrize("name", FULL)
def test_both_sizes_have_the_same_rows_and_all_their_settings_hold(name: str) -> None:
    (_, full), (_, small) = load_study(name), load_study(f"{name}-small")
    assert (full.base, small.base) == ("coco", "small")
    # Names tell values, and values are smaller.
    trained = [[each for each, variant in study.variants.items() if variant.weights is None] for study in (full, small)]
    assert len(trained[0]) == len(trained[1])
    # Random weights are for a few hundred photographs to stand beside; of the small network there are no others.
    assert {*small.variants} - {*trained[1]} <= {"random"}
    assert ("supervised" in full.variants) == (name in ("tablec1", "tablec2"))
    for study in (full, small):
        for variant, each in study.variants.items():
            if each.weights is None:
                config = study.config(variant, study.seeds[-1])
                assert config.seed == study.seeds[-1]
                assert [planned.protocol for planned in config.evaluate.protocols] == [
                    planned.protocol for planned in study.measure
                ]
        assert not any("$" in planned.data for planned in study.measure)


@pytest.mark.parametrize("name", FULL)
def test_no_variant_sets_what_its_method_ignores_or_meets_itself_in_the_queue(name: str) -> None:
    for size in (name, f"{name}-small"):
        _, study = load_study(size)
        for variant, each in study.variants.items():
            if each.weights is None:
                config = study.config(variant, study.seeds[0])
                ignored = {
                    "cyborgs": ("train.queue", "train.dense_weight"),
                    "byol": ("train.temperature", "train.queue", "train.dense_weight"),
                    "simclr": ("train.queue", "train.dense_weight"),
                    "moco": ("train.dense_weight",),
                    "densecl": (),
                }[config.train.method]
                assert not [setting for setting in each.set if setting.startswith(ignored)], variant
                # More keys than photographs hold a query's own photograph of the epoch before, as a negative.
                photographs = 380 if study.base == "small" else 118_287
                assert config.train.method not in ("moco", "densecl") or config.train.queue < photographs, variant


@pytest.mark.parametrize("name", FULL)
def test_a_smoke_run_is_two_epochs_of_every_variant(name: str) -> None:
    for size in (name, f"{name}-small"):
        called, study = load_study(size, smoke=True)
        assert called == f"{size}-smoke"
        assert len(study.seeds) == 1
        for variant, each in study.variants.items():
            if each.weights is None:
                config = study.config(variant, study.seeds[0])
                assert config.schedule.epochs == 2
                assert config.schedule.warmup_epochs <= 1
                assert all(planned.is_due(0, last=0) for planned in config.evaluate.protocols)
        for planned in study.measure:
            quick = load_protocol(planned.protocol, smoke=True)
            settings = load_protocol(planned.protocol, planned.set)
            assert settings.threads == quick.threads
            # What names parts of a data set stays as the study has it.
            whole = next(each for each in load_study(size)[1].measure if each.title == planned.title)
            for part in ("train", "test", "image_list"):
                assert (
                    getattr(settings, part, None) == getattr(load_protocol(planned.protocol, whole.set), part, None)
                    or (planned.protocol, part) in SMALLER
                )
            assert settings.max_images == quick.max_images


SMALLER = {("voc-detection", "train"), ("imagenet-semi", "image_list")}
"""One of VOC's two training sets; any images of the classes instead of the published list."""

TEXT = """
base: small
set: [schedule.epochs=24]
data: [$CYBORGS_SAMPLE_DATA/photographs]
seeds: [3, 4]
variants:
  plain: []
  no-vmf: [train.vmf_every_epochs=0]
  grid: {set: [masks.source=grid]}
  random: {weights: random}
measure:
  - {protocol: region-linear, data: $CYBORGS_SAMPLE_DATA/coco, cycles: [1]}
"""


def load(tmp_path: Path, text: str) -> Study:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    name, study = load_study(str(path))
    assert name == "mine"
    return study


def test_a_study_is_its_base_with_settings_laid_over(tmp_path: Path) -> None:
    study = load(tmp_path, TEXT)
    assert study.data == ("/data/sample_data/photographs",)
    plain, grid = study.config("plain", 3), study.config("grid", 4)
    assert (plain.masks.source, grid.masks.source) == ("bootstrap", "grid")
    assert (plain.seed, grid.seed) == (3, 4)
    (planned,) = grid.evaluate.protocols
    assert (planned.data, planned.cycles) == ("/data/sample_data/coco", (1,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("masks.source=grid", "masks.source=gird", "^variant grid: masks.source = 'gird'"),
        ("masks.source=grid", "masks.sources=grid", "^variant grid: unknown setting masks.sources"),
        ("base: small", "base: tiny", "tiny"),
        (
            "$CYBORGS_SAMPLE_DATA/coco",
            "$CYBORGS_NOWHERE",
            r"\$CYBORGS_NOWHERE: set that environment variable",
        ),
        ("seeds: [3, 4]", "seeds: [3, 3]", "name each once"),
        ("seeds: [3, 4]", "seeds: []", "seeds: name one at least"),
        ("  plain: []", "  ../plain: []", "names a folder"),
        ("{weights: random}", "{weights: random, set: [seed=1]}", "have no settings"),
        ("region-linear", "region-circular", "region-circular"),
        ("  - {protocol", "  # {protocol", "measure"),
        ("cycles: [1]", "cycles: [3]", r"variant plain: region-linear is never measured: cycles \[3\].* 0 to 2;"),
        ("cycles: [1]", "cycles: []", "region-linear is never measured"),
        ("set: [schedule.epochs=24]", "set: [seed=5]", "seed=5: that is what the study's `seeds` says"),
        ("train.vmf_every_epochs=0", "evaluate.protocols=null", "that is what the study's `measure` says"),
        (
            "set: [schedule.epochs=24]",
            "set: [schedule.epochs]",
            "^variant plain: schedule.epochs: write it as name=value",
        ),
        ("{set: [masks.source=grid]}", "{masks.source: grid}", r"variants.grid: write a list of settings"),
        ("{set: [masks.source=grid]}", "", r"variants.grid: write a list of settings"),
        ("base: small", "base: small.yml", "small.yml"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, TEXT.replace(old, new))
    assert "\n" not in str(caught.value)


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a .yaml file and not one of fig5a, fig5a-small"):
        load_study("table9")
    with pytest.raises(ConfigError, match="no such file"):
        load_study(str(tmp_path / "none.yaml"))


def test_equal_steps_are_planned_once(tmp_path: Path) -> None:
    study = load(tmp_path, TEXT)
    names = [name for name, each in study.variants.items() if each.weights is None]
    configs = {f"{name}-{seed}": study.config(name, seed) for seed in study.seeds for name in names}
    shared = {
        (each.step.name, each.members[0]): each.members[1:] for each in planned_steps(configs) if len(each.members) > 1
    }
    # The seed enters every key but for what does not depend on it; masks of a grid are no encoder's.
    assert shared["warm-up", "plain-3"] == ("no-vmf-3", "grid-3")
    assert shared["warm-up", "plain-4"] == ("no-vmf-4", "grid-4")
    assert shared["bootstrap-masks cycle 0", "plain-3"] == ("no-vmf-3",)
    assert not any(step.startswith(("train", "evaluate")) for step, _ in shared)

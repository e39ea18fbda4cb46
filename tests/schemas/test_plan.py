"""The order of the run (Algorithm 3), and what enters the key of each step."""

import itertools
from typing import Any

import pytest

from schemas.config import RunConfig
from schemas.digests import canonical_json, digest_bytes, digest_json
from schemas.errors import ConfigError
from schemas.loading import load_config
from schemas.plan import (
    Step,
    artifact_key,
    bootstrap_epochs,
    checkpoints_kept,
    config_part,
    find_step,
    ingredients,
    plan,
)
from schemas.stages import CYCLE_STAGES, STAGE_NAMES, StageName


def config(**schedule: Any) -> RunConfig:
    """The paper's config with another schedule."""
    return RunConfig.model_validate({"schedule": schedule, "optimization": {"lr_warmup_epochs": 1}})


def segments(found: RunConfig) -> list[tuple[int, int]]:
    return [(step.first_epoch, step.last_epoch) for step in plan(found) if step.stage == "train"]


def test_the_paper() -> None:
    assert bootstrap_epochs(RunConfig()) == [5, 100, 200, 300, 400, 500, 600, 700]
    starts = [5, 100, 200, 300, 400, 500, 600, 700, 800]
    assert segments(RunConfig()) == list(itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"epochs": 10, "warmup_epochs": 2, "bootstrap_every_epochs": 0}, [(2, 10)]),
        ({"epochs": 9, "warmup_epochs": 0, "bootstrap_every_epochs": 4}, [(0, 4), (4, 8), (8, 9)]),
        ({"epochs": 8, "warmup_epochs": 0, "bootstrap_every_epochs": 4}, [(0, 4), (4, 8)]),
        ({"epochs": 9, "warmup_epochs": 4, "bootstrap_every_epochs": 4}, [(4, 8), (8, 9)]),
        ({"epochs": 10, "warmup_epochs": 5, "bootstrap_every_epochs": 3}, [(5, 6), (6, 9), (9, 10)]),
        ({"epochs": 4, "warmup_epochs": 1, "bootstrap_every_epochs": 1}, [(1, 2), (2, 3), (3, 4)]),
        ({"epochs": 6, "warmup_epochs": 5, "bootstrap_every_epochs": 100}, [(5, 6)]),
    ],
)
def test_masks_come_after_warm_up_and_then_at_multiples_of_n(
    schedule: dict[str, int], expected: list[tuple[int, int]]
) -> None:
    assert segments(config(**schedule)) == expected


@pytest.mark.parametrize("warmup", [0, 1, 3, 7])
@pytest.mark.parametrize("every", [0, 1, 2, 5, 7, 50])
def test_every_epoch_is_trained_exactly_once(warmup: int, every: int) -> None:
    """Against the loop of Algorithm 3, epoch by epoch."""
    found = config(epochs=20, warmup_epochs=warmup, bootstrap_every_epochs=every)
    masks_before = [t for t in range(20) if t == warmup or (every and t > warmup and t % every == 0)]
    assert bootstrap_epochs(found) == masks_before
    trained = [epoch for first, last in segments(found) for epoch in range(first, last)]
    assert trained == list(range(warmup, 20))
    (warm_up,) = (step for step in plan(found) if step.stage == "warm-up")
    assert (warm_up.first_epoch, warm_up.last_epoch) == (0, warmup)


def test_an_extended_run_keeps_what_it_was_and_starts_a_cycle_where_it_ended() -> None:
    """20 epochs, extended to 24 and then to 40, masks every 8: cuts at 8, 16, 20, 24 and 32."""
    found = config(epochs=40, warmup_epochs=2, bootstrap_every_epochs=8, extended_from=[20, 24])
    assert bootstrap_epochs(found) == [2, 8, 16, 20, 24, 32]
    assert [step.schedule_epochs for step in plan(found) if step.stage == "train"] == [20, 20, 20, 24, 40, 40]
    before = config(epochs=20, warmup_epochs=2, bootstrap_every_epochs=8)
    for step in plan(before):
        assert step in plan(found), step.name
        assert config_part(found, step) == config_part(before, step), step.name


@pytest.mark.parametrize("totals", [[2], [3], [12, 12], [14, 12], [20], [25]])
def test_totals_that_cannot_have_been_are_refused(totals: list[int]) -> None:
    with pytest.raises(ValueError, match=r"schedule\.extended_from .*rising"):
        config(epochs=20, warmup_epochs=3, extended_from=totals)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", "warm-up 0 1 2 3 4"),
        ("last:1", "4"),
        ("last:3", "2 3 4"),
        ("last:99", "warm-up 0 1 2 3 4"),
        ("every:2", "1 3 4"),
        ("every:9", "4"),
        ([2, 16], "warm-up 1 4"),
        ([3], "4"),
    ],
)
def test_which_checkpoints_stay(policy: Any, expected: str) -> None:
    tree = {
        "schedule": {"epochs": 40, "warmup_epochs": 2, "bootstrap_every_epochs": 8},
        "placement": {"keep_checkpoints": policy},
    }
    names = [name if name == "warm-up" else f"train cycle {name}" for name in expected.split()]
    assert checkpoints_kept(RunConfig.model_validate(tree)) == set(names)


def test_every_step_finds_its_inputs_among_those_before_it() -> None:
    before: list[str] = []
    for step in plan(RunConfig()):
        assert {name for _, name in step.inputs} <= set(before), step.name
        before.append(step.name)
    assert len(before) == len(set(before)) == 2 + 3 * 8


def test_what_each_step_reads() -> None:
    reads = {step.name: dict(step.inputs) for step in plan(RunConfig())}
    assert reads["index-images"] == {}
    assert reads["warm-up"] == {"index": "index-images"}
    assert reads["bootstrap-masks cycle 0"] == {"index": "index-images", "checkpoint": "warm-up"}
    assert reads["train cycle 0"] == {
        "index": "index-images",
        "checkpoint": "warm-up",
        "masks": "bootstrap-masks cycle 0",
    }
    assert reads["bootstrap-masks cycle 3"]["checkpoint"] == "train cycle 2"
    assert reads["train cycle 3"]["checkpoint"] == "train cycle 2"
    assert reads["train cycle 3"]["masks"] == "bootstrap-masks cycle 3"
    assert reads["evaluate cycle 3"]["checkpoint"] == "train cycle 3"
    assert reads["evaluate cycle 3"]["masks"] == "bootstrap-masks cycle 3"
    assert reads["evaluate cycle 3"]["previous_masks"] == "bootstrap-masks cycle 2"
    assert "previous_masks" not in reads["evaluate cycle 0"]


def test_evaluation_hangs_beside_the_path() -> None:
    assert not any(name.startswith("evaluate") for step in plan(RunConfig()) for _, name in step.inputs)


def test_find_step_finds_each_step_of_the_plan() -> None:
    for step in plan(RunConfig()):
        assert find_step(RunConfig(), step.stage, step.cycle) == step


@pytest.mark.parametrize("stage", CYCLE_STAGES)
def test_a_cycle_beyond_the_last_or_missing_is_refused(stage: StageName) -> None:
    with pytest.raises(ConfigError, match="cycle 8: this run has cycles 0 to 7"):
        find_step(RunConfig(), stage, 8)
    with pytest.raises(ConfigError, match="cycle -1"):
        find_step(RunConfig(), stage, -1)
    with pytest.raises(ConfigError, match=f"{stage} .*say which with --cycle"):
        find_step(RunConfig(), stage, None)


@pytest.mark.parametrize("stage", [name for name in STAGE_NAMES if name not in CYCLE_STAGES])
def test_a_cycle_where_there_is_none_is_refused(stage: StageName) -> None:
    with pytest.raises(ConfigError, match=f"{stage} .*leave out --cycle"):
        find_step(RunConfig(), stage, 0)


SMALL: dict[str, Any] = {
    "network": {"architecture": "resnet50"},
    "schedule": {"epochs": 20, "warmup_epochs": 2, "bootstrap_every_epochs": 8},
    "optimization": {"lr_warmup_epochs": 1},
}
STEPS: dict[str, tuple[StageName, int | None]] = {
    "index": ("index-images", None),
    "warm-up": ("warm-up", None),
    "masks": ("bootstrap-masks", 1),
    "train": ("train", 1),
    "evaluate": ("evaluate", 1),
}


def key(
    step_name: str, *, inputs: dict[str, str] | None = None, pins: dict[str, str] | None = None, **parts: Any
) -> str:
    """Key of a step when its inputs stay as they are."""
    tree = {name: dict(value) for name, value in SMALL.items()}
    for name, value in parts.items():
        tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
    found = RunConfig.model_validate(tree)
    step = find_step(found, *STEPS[step_name])
    roles = {role: f"content of {role}" for role, _ in step.inputs}
    pinned = {"photographs": "p", "start": "s"}
    return artifact_key(ingredients(found, step, inputs=roles | (inputs or {}), pins=pinned | (pins or {})))


READS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "index warm-up masks train evaluate"),
    ({"index": {"max_broken_fraction": 0.5}}, "index"),
    ({"index": {"max_megapixels": 5}}, "index"),
    ({"network": {"architecture": "resnet101"}}, "warm-up masks train evaluate"),
    ({"network": {"region_grid": 14}}, "warm-up train evaluate"),
    ({"network": {"contrast_layers": ["layer3", "layer4"]}}, "warm-up train evaluate"),
    ({"network": {"projector_hidden": 64}}, "warm-up train evaluate"),
    ({"network": {"start": "weights.pth"}}, "warm-up"),
    ({"augmentation": {"crop_size": 448}}, "warm-up train evaluate"),
    ({"augmentation": {"hue": 0.3}}, "warm-up train"),
    ({"schedule": {"epochs": 24}}, "warm-up train"),
    ({"schedule": {"warmup_epochs": 3}}, "warm-up"),
    ({"schedule": {"bootstrap_every_epochs": 9}}, "train"),
    ({"schedule": {"extended_from": [18]}}, "warm-up train"),
    ({"schedule": {"checkpoint_epochs": [12]}}, "train"),
    ({"schedule": {"checkpoint_epochs": [2]}}, "warm-up"),
    ({"schedule": {"checkpoint_epochs": [4, 20]}}, ""),
    ({"optimization": {"batch_size": 32}}, "warm-up train"),
    ({"optimization": {"learning_rate": 0.2}}, "warm-up train"),
    ({"optimization": {"ema_momentum": 0.9}}, "warm-up train"),
    ({"vmf": {"clusters": 9}}, "warm-up train"),
    ({"vmf": {"concentration": 9}}, "warm-up train"),
    ({"masks": {"layer": "layer3"}}, "warm-up masks train evaluate"),
    ({"masks": {"clusters": [2, 9]}}, "masks"),
    ({"masks": {"images_per_group": 8}}, "masks"),
    ({"masks": {"max_side": 320}}, "masks evaluate"),
    ({"masks": {"refresh_batch_norm": 3}}, "masks"),
    ({"masks": {"crf": True}}, "masks"),
    ({"masks": {"keep_if_worse": 0.5}}, "masks"),
    ({"train": {"temperature": 0.3}}, "train"),
    ({"train": {"vmf_weight": 0.3}}, "train"),
    ({"train": {"regions": 8}}, "train evaluate"),
    ({"evaluate": {"images": 9}}, "evaluate"),
    ({"evaluate": {"pictures": 3}}, "evaluate"),
    ({"numerics": {"precision": "bfloat16"}}, "warm-up masks train evaluate"),
    ({"numerics": {"threads": 3}}, "warm-up masks train evaluate"),
    ({"numerics": {"world_size": 2}}, "warm-up train"),
    ({"numerics": {"accumulation": 2}}, "warm-up train"),
    ({"numerics": {"compile": True}}, "warm-up train"),
    ({"placement": {"device": "cuda:3", "loader_workers": 9, "launcher": "inline", "data": ["x"]}}, ""),
    ({"placement": {"checkpoint_every_minutes": 1, "log_every_steps": 1}}, ""),
    ({"placement": {"keep_checkpoints": "last:1", "pause_after": "train", "pause_on_alarm": True}}, ""),
]
"""Changed settings, and the steps that read them. Step: the second segment, [8, 16)."""


@pytest.mark.parametrize(("change", "steps"), READS, ids=lambda value: str(value)[:60])
def test_a_setting_changes_the_keys_of_the_stages_that_read_it_and_no_others(
    change: dict[str, Any], steps: str
) -> None:
    assert {name for name in STEPS if key(name, **change) != key(name)} == set(steps.split())


@pytest.mark.parametrize("name", STEPS)
def test_the_content_of_every_input_changes_the_key(name: str) -> None:
    step = find_step(RunConfig.model_validate(SMALL), *STEPS[name])
    for role, _ in step.inputs:
        assert key(name, inputs={role: "other"}) != key(name), role


def test_contents_are_not_mixed_up_between_roles() -> None:
    assert key("train", inputs={"masks": "a", "checkpoint": "b"}) != key(
        "train", inputs={"masks": "b", "checkpoint": "a"}
    )


def test_what_came_from_outside_is_pinned_where_it_is_read() -> None:
    assert {name for name in STEPS if key(name, pins={"photographs": "x"}) != key(name)} == {"index"}
    assert {name for name in STEPS if key(name, pins={"start": "x"}) != key(name)} == {"warm-up"}


def test_where_the_start_weights_lie_does_not_matter() -> None:
    assert key("warm-up", network={"start": "a.pth"}) == key("warm-up", network={"start": "b/c.safetensors"})
    assert key("warm-up", network={"start": "a.pth"}) != key("warm-up")


def test_cycles_with_the_same_inputs_have_keys_of_their_own() -> None:
    found = RunConfig.model_validate(SMALL)
    keys = [
        artifact_key(ingredients(found, Step("bootstrap-masks", cycle), inputs={"index": "i"}, pins={}))
        for cycle in range(3)
    ]
    assert len(set(keys)) == 3


def test_keys_are_short_and_hexadecimal() -> None:
    assert len(key("train")) == 20
    int(key("train"), 16)


def test_digests_do_not_depend_on_key_order_and_do_on_values() -> None:
    assert digest_json({"a": 1, "b": {"c": [1, 2], "d": None}}) == digest_json({"b": {"d": None, "c": [1, 2]}, "a": 1})
    values: list[Any] = [
        {"a": 1},
        {"a": 2},
        {"a": "1"},
        {"a": [1]},
        {"a": None},
        {"a": True},
        {"b": 1},
        [1, 2],
        [2, 1],
        {},
    ]
    assert len({digest_json(value) for value in values}) == len(values)
    assert canonical_json({"b": "ü", "a": 0.1}) == '{"a":0.1,"b":"\\u00fc"}'


def test_digests_refuse_what_has_no_one_form() -> None:
    with pytest.raises(ValueError):
        digest_json({"a": float("nan")})


def test_the_digest_is_blake2b_of_128_bits() -> None:
    """From RFC 7693's algorithm as `b2sum -l 128` prints it for no bytes."""
    assert digest_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"


@pytest.mark.parametrize(
    ("stage", "cycle", "expected"),
    [
        ("index-images", None, "4a588e57a4247985e984"),
        ("warm-up", None, "5c9e6eb32c5c0b07596b"),
        ("bootstrap-masks", 0, "8b85c2c81bd12f979142"),
        ("train", 1, "46a8cd04b6deaa65318e"),
        ("evaluate", 1, "03a029dbc29aa4834c9c"),
    ],
)
def test_keys_are_those_of_the_first_runs(stage: StageName, cycle: int | None, expected: str) -> None:
    """As version 0.1.0 printed them before masks.crf and evaluate.protocols were there: weeks of work hang on them."""
    found = load_config("coco", ["numerics.threads=1", "numerics.precision=float32"])
    step = find_step(found, stage, cycle)
    roles = {role: f"content of {role}" for role, _ in step.inputs}
    assert artifact_key(ingredients(found, step, inputs=roles, pins={"photographs": "p", "start": "s"})) == expected


def test_what_is_switched_off_enters_no_key() -> None:
    assert key("masks", masks={"crf_iterations": 3}) == key("masks")
    assert key("masks", masks={"crf": True}) != key("masks")
    on: dict[str, Any] = {"crf": True}
    for changed in (
        {"crf_concentration": 20},
        {"crf_iterations": 5},
        {"crf_appearance": [5, 60, 20]},
        {"crf_smoothness": [0, 3]},
    ):
        assert key("masks", masks=on | changed) != key("masks", masks=on)


def test_the_mask_gate_reads_the_masks_of_the_cycle_before() -> None:
    """Off, it is as if it were not there; on, the first masks and what does not make masks stay as they were."""
    off, on, stricter = (RunConfig.model_validate({"masks": {"keep_if_worse": share}}) for share in (0, 0.5, 0.6))
    assert plan(off) == plan(RunConfig())
    reads = {step.name: dict(step.inputs) for step in plan(on)}
    assert "previous_masks" not in reads["bootstrap-masks cycle 0"]
    for cycle in range(1, 8):
        before = f"bootstrap-masks cycle {cycle - 1}"
        assert reads[f"bootstrap-masks cycle {cycle}"].pop("previous_masks") == before
    assert reads == {step.name: dict(step.inputs) for step in plan(off)}
    changed = {
        step.name
        for step, same in zip(plan(off), plan(on), strict=True)
        if config_part(off, step) != config_part(on, same)
    }
    assert changed == {f"bootstrap-masks cycle {cycle}" for cycle in range(1, 8)}
    later = find_step(on, "bootstrap-masks", 1)
    assert config_part(on, later) != config_part(stricter, later)

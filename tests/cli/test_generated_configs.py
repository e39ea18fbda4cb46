"""Generated configs: `cyborgs plan` shows the stages, or says in one line per mistake what is wrong. Never a hang."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.config import RunConfig
from schemas.loading import field_names, flatten
from tests.cli.fuzzing import bounded, judge

FIELDS = field_names(RunConfig)
DEFAULTS = flatten(RunConfig())
ARCHITECTURES = st.sampled_from(["resnet18", "resnet34", "resnet50", "wide_resnet50_2"])

odd_numbers = st.one_of(
    st.integers(-3, 300), st.sampled_from([10**6, 10**9, 2**63, 2**70, -(10**12)]), st.floats(), st.floats(0, 1)
)
words = st.one_of(st.text(max_size=12), st.sampled_from(["auto", "cuda:99", "layer2.9", "../..", "lars", "~nobody/x"]))
scalars = st.one_of(st.none(), st.booleans(), odd_numbers, words, st.dates(), st.binary(max_size=4))
nonsense = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(words, st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)


def near(default: Any) -> st.SearchStrategy[Any]:
    """Values of the kind that a field takes: many are valid."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.one_of(st.just(default), st.integers(0, 2 * default + 4))
    if isinstance(default, float):
        return st.one_of(st.just(default), st.floats(0, 2 * default + 1))
    if isinstance(default, list) and default:
        return st.one_of(st.just(default), st.lists(near(default[0]), max_size=3))
    return st.just(default)


@st.composite
def trees(draw: st.DrawFn) -> Any:
    """Settings of which some are valid, some are not, and some are none."""
    tree: Any = {"network": {"architecture": draw(ARCHITECTURES)}}
    if draw(st.booleans()):
        tree["masks"] = {"layer": "layer2.1"}
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=6)):
        group, _, field = name.rpartition(".")
        value = draw(st.one_of(near(DEFAULTS[name]), near(DEFAULTS[name]), nonsense))
        place = tree.setdefault(group, {}) if group else tree
        if isinstance(place, dict):
            place[field] = value
    if draw(st.integers(0, 5)) == 0:
        tree[draw(st.one_of(words, st.sampled_from(list(RunConfig.model_fields)), st.integers()))] = draw(nonsense)
    return tree if draw(st.integers(0, 20)) else draw(nonsense)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """YAML, most often; then some characters of it are changed."""
    text = yaml.safe_dump(draw(trees()), allow_unicode=draw(st.booleans()), default_flow_style=draw(st.booleans()))
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 3]))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data[at : at + 1] = draw(
            st.sampled_from([b"", b"\t", b": ", b"[", b"}", b"&a ", b"*a", b"\0", b"\xff", b"!!x ", b"\n- "])
        )
    return bytes(data)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
)


@bounded(290)
@given(text=texts())
@example(text=b"[" * 3000)
@example(text=b"{a: " * 3000)
@example(text=b"- " * 5000 + b"x")
@example(text=BOMB.encode())
@example(text=b"&a [*a]")
@example(text=b"seed: &a {b: *a}")
@example(text=b"network: &a {architecture: *a}")
@example(text=b"!!python/object/apply:os.system ['true']")
@example(text=b"schedule: {epochs: 1000000000, bootstrap_every_epochs: 1}")
@example(text=b"schedule: {epochs: 9223372036854775808, bootstrap_every_epochs: 0}")
@example(text=b"schedule: {epochs: 3, checkpoint_epochs: [1000000000]}")
@example(text=b"seed: " + b"9" * 5000)
@example(text=b"seed: 0x" + b"f" * 5000)
@example(text=b"? [a, b]\n: 1")
@example(text=b"1: 2")
@example(text=b"null: 2")
@example(text=b"<<: [1]")
@example(text=b"seed: 2001-99-99")
@example(text=b"\xff\xfes\0e\0")
@example(text=b"\xef\xbb\xbfseed: 1")
@example(text=b"a\rb: c")
@example(text="placement: {device: 'a\u2028b'}".encode())
@example(text=b'placement: {device: "\\ud800"}')
@example(text=b'"\\ud800": 1')
def test_it_is_planned_or_its_mistakes_are_named(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "generated.yaml"
    file.write_bytes(text)
    judge(["plan", str(file)], opening=f"config {file}: ")


@bounded(60)
@given(name=st.one_of(st.sampled_from(FIELDS), words), value=st.one_of(words, odd_numbers.map(str), nonsense.map(str)))
@example(name="seed", value="[" * 3000)
@example(name="a.b.c.d.e", value="1")
@example(name="network", value="1")
def test_an_assignment_is_taken_or_its_mistake_is_named(name: str, value: str) -> None:
    if "\0" in name + value or name.startswith("-"):
        return  # no command line can hold the one; the other is an option
    judge(["plan", "demo", f"--set={name}={value}"], opening=("config demo: ", "--set "))

"""Generated COCO jsons over real small photographs: `index-images` runs, or one line says what is wrong."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.fuzzing import bounded, judge
from tests.storage.samples import make_photographs

NAMES = [f"{number}.png" for number in range(6)]
ODD_NAMES = ["", ".", "..", "/", "../0.png", "/etc/passwd", "a/../../0.png", "folder", "broken.png", "missing.png"]
ODD_NAMES += ["0.PNG", "./0.png", "folder/6.png", "folder//6.png", "x" * 300, "\ud800.png", "a\0b", "a\nb.png", "C:\\a"]
odd_names = st.one_of(st.sampled_from([*ODD_NAMES, "loop/loop.png"]), st.text(max_size=10))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """COCO's structure with parts of it replaced."""
    named = draw(st.lists(st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), odd_names), max_size=8))
    entries: list[Any] = [{"id": n, "file_name": name, "width": 40, "height": 32} for n, name in enumerate(NAMES)]
    entries += [{"id": draw(st.one_of(st.integers(), anything)), "file_name": name} for name in named]
    if draw(st.integers(0, 4)) == 0:
        entries.insert(draw(st.integers(0, len(entries))), draw(anything))
    annotations = draw(st.one_of(st.just([]), st.just([{"id": 1, "image_id": 0, "category_id": 1}]), anything))
    document: Any = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    for key in draw(st.lists(st.sampled_from(["images", "annotations", "categories", "info"]), max_size=1)):
        if draw(st.booleans()):
            document[key] = draw(anything)
        else:
            document.pop(key, None)
    return document if draw(st.integers(0, 12)) else draw(anything)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """The document as JSON; sometimes cut or changed."""
    data = json.dumps(draw(documents()), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    damage = draw(st.integers(0, 6))
    if damage == 0:
        return data[: draw(st.integers(0, len(data)))]
    if damage == 1:
        at = draw(st.integers(0, len(data)))
        return (
            data[:at] + draw(st.sampled_from([b"\0", b"\xff", b"{", b",", b'"', b"NaN", b"\xef\xbb\xbf"])) + data[at:]
        )
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs, one in a folder below, one that is none, and a link that leads to itself."""
    root = tmp_path_factory.mktemp("annotated")
    images = make_photographs(root / "images", 6)
    (images / "folder").mkdir()
    shutil.copy(images / "0.png", images / "folder" / "6.png")
    (images / "broken.png").write_bytes(b"broken")
    (images / "loop").symlink_to("loop")
    return root


@bounded(72)
@given(text=texts())
@example(text=b"[" * 100_000)
@example(text=b'{"images": ' + b"[" * 5000)
@example(text=b"")
@example(text=b"\xef\xbb\xbf{}")
@example(text=b'{"images": []}')
@example(text=b'{"images": [{"file_name": "0.png", "file_name": "1.png"}]}')
@example(text=b'{"images": ' + b"9" * 5000 + b"}")
def test_it_is_indexed_or_its_mistake_is_named(folder: Path, text: bytes) -> None:
    file = folder / "photographs_images.json"
    file.write_bytes(text)
    run = folder / "runs" / uuid.uuid4().hex
    data = f"{file}={folder / 'images'}"
    settings = ["optimization.batch_size=2", "index.max_broken_fraction=0.9", "numerics.threads=1"]
    made = judge(["run", "small", "--create", "--data", data, "--run", str(run), "--set", *settings], opening="--data ")
    if made == 0:
        assert judge(["stage", "index-images", "--run", str(run)], opening="") == 0
        table = next(run.glob("index/*/photographs.csv")).read_text()
        assert "passwd" not in table
    assert run.exists() == (made == 0), "half a run was left"
    shutil.rmtree(folder / "runs", ignore_errors=True)

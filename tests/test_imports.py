"""Who may import whom, and what stays light."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.samples import make_run

ROOT = Path(__file__).parents[1]
OURS = {"schemas", "storage", "cyborgs", "stages", "flows", "cli", "benchmarks"}
NOT_INSTALLED = {"benchmarks"}
MAY_IMPORT = {
    "schemas": {"schemas"},
    "storage": {"storage", "schemas"},
    "cyborgs": {"cyborgs"},
    "stages": {"stages", "schemas", "storage", "cyborgs"},
    "flows": {"flows", "schemas", "storage"},
    "cli": {"cli", "schemas", "storage", "flows", "stages"},
    "benchmarks": {"benchmarks", "schemas", "storage", "cyborgs", "stages", "flows"},
}
"""Of our own packages; `flows` starts stages by name."""
HEAVY = {"torch", "torchvision", "prefect", "numpy", "zarr", "faiss", "matplotlib", "PIL", "skimage", "sklearn"}
MUST_NOT = {
    "schemas": HEAVY | {"safetensors"},
    "storage": {"prefect", "torchvision", "faiss"},
    "cyborgs": {"prefect", "pydantic", "zarr"},
    "stages": {"prefect"},
    "flows": {"torch", "torchvision", "faiss", "numpy"},
    "cli": {"torch", "torchvision", "faiss"},
    "benchmarks": {"prefect"},
}
LONGEST = 320


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports; with `top_only` leaving out what functions import."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
        elif not (top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            pending.extend(ast.iter_child_nodes(node))


def top(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", sorted(OURS))
def test_the_arrows_between_our_folders(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in sources(package)
        if (found := (top(imports(path)) & (OURS | {"tests", "configs"})) - MAY_IMPORT[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("package", sorted(OURS))
def test_what_each_folder_leaves_to_others(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in sources(package)
        if (found := top(imports(path)) & MUST_NOT[package])
    }
    assert wrong == {}


def test_one_file_of_storage_imports_torch() -> None:
    importing = [path.name for path in sources("storage") if top(imports(path)) & {"torch", "safetensors"}]
    assert importing == ["checkpoints.py"]
    users = [
        path.name
        for path in sources("storage") + sources("flows") + sources("cli")
        if "storage.checkpoints" in set(imports(path))
    ]
    assert users == [], "importing it brings torch"


def test_the_command_imports_what_is_heavy_only_where_it_is_needed() -> None:
    for path in sources("cli"):
        at_start = set(imports(path, top_only=True))
        assert not top(iter(at_start)) & (HEAVY | {"stages"}), path
        assert "flows.cyborgs" not in at_start, f"{path}: brings Prefect"
    for name in ("main", "arguments", "measure", "pictures", "study", "take_home"):  # what every command pays for
        light = set(imports(ROOT / "cli" / f"{name}.py", top_only=True))
        assert top(iter(light)) & OURS <= {"schemas", "cli"}, name
        assert {each for each in light if each.startswith("cli.")} <= {
            "cli.arguments", "cli.measure", "cli.pictures", "cli.study", "cli.take_home"
        }  # fmt: skip


def test_a_file_is_read_in_one_sitting() -> None:
    lengths = {
        str(path.relative_to(ROOT)): lines
        for package in OURS
        for path in sources(package)
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert lengths == {}


def test_every_package_is_installed() -> None:
    """They are listed one by one in pyproject.toml: a new folder is easily forgotten."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    installed = OURS - NOT_INSTALLED
    found = {".".join(path.parent.relative_to(ROOT).parts) for package in installed for path in sources(package)}
    assert found - listed == set()


def python(code: str, tmp_path: Path, *arguments: str) -> str:
    """Run code in a process of its own, away from the checkout; what it prints."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BLOCKED = "import sys\nfor name in ('torch', 'torchvision', 'faiss'): sys.modules[name] = None\n"


def test_a_machine_that_only_orchestrates_needs_no_torch(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("schemas", "flows")
        for path in sources(package)
        if path.stem != "__init__"
    ]
    assert {"schemas.config", "flows.prepare", "flows.launching", "flows.cyborgs"} <= set(modules)
    code = BLOCKED + (
        "from importlib import import_module\n"
        "from cli.main import main\n"
        "assert main(['plan', 'demo']) == 0\n"
        "assert main(['status', sys.argv[1]]) == 0\n"
        "[import_module(name) for name in sys.argv[2:]]\n"
        "assert 'prefect' in sys.modules"
    )
    told = python(code, tmp_path, str(tmp_path / "run"), *modules)
    assert "bootstrap-masks cycle 1" in told
    assert "stages done" in told


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "coco"], ["status", "run"], ["run", "--help"]], ids=" ".join
)
def test_looking_is_light(tmp_path: Path, arguments: list[str]) -> None:
    make_run(tmp_path / "run")
    code = (
        "import sys\n"
        "from cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)"
    )
    lines = python(code, tmp_path, *arguments).splitlines()
    assert len(lines) > 1, "it printed nothing"
    loaded = set(lines[-1].split())
    assert "schemas" in loaded
    assert loaded & (HEAVY | {"sqlalchemy", "scipy", "safetensors"}) == set()

"""Tests in forked copies of a process that has imported all packages already: a fresh start in a tenth of a second."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
SURVIVED, KILLED, BROKEN = "survived", "killed", "killed by an error"
_VERDICTS = {0: SURVIVED, 1: KILLED, 2: BROKEN, -signal.SIGALRM: "killed by time"}
_OURS = ("cyborgs", "schemas", "storage", "stages", "flows", "cli", "tests")
# Packages are imported before pytest is there to watch, and its plugins are not needed.
_OPTIONS = ("-q", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=")

Case = TypeVar("Case")


def import_packages(test_files: Iterable[str]) -> None:
    """Import what those tests import, once for all children, but leave our own packages to each of them.

    Args:
        test_files: below the project, such as tests/cyborgs/losses/test_vmf.py.
    """
    for file in (*test_files, "tests/cyborgs/conftest.py"):
        importlib.import_module(file.removesuffix(".py").replace("/", "."))
    for name in list(sys.modules):
        if name.split(".")[0] in _OURS and not name.startswith("tests.mutants"):
            del sys.modules[name]
    gc.collect()
    gc.freeze()  # or every child looks through all packages again


def in_children(
    cases: Sequence[Case], judge: Callable[[Case], NoReturn], *, jobs: int, seconds: int
) -> Iterator[tuple[Case, str]]:
    """Each case and its verdict as they come in, `jobs` at a time.

    Args:
        judge: runs in the child and ends it, by `run_tests`.
        seconds: a child that takes longer is taken for one that never ends.
    """
    running: dict[int, Case] = {}
    waiting = list(reversed(cases))
    while waiting or running:
        while waiting and len(running) < jobs:
            case = waiting.pop()
            sys.stdout.flush()
            child = os.fork()
            if not child:
                _quietly(judge, case, seconds)
            running[child] = case
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        yield running.pop(child), _VERDICTS.get(code, "killed by a crash")


def _quietly(judge: Callable[[Case], NoReturn], case: Case, seconds: int) -> NoReturn:
    signal.alarm(seconds)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        judge(case)
    finally:
        os._exit(2)


def run_tests(*arguments: str, first_failure: bool) -> NoReturn:
    """Run pytest, and end this process with the verdict.

    Args:
        first_failure: decides, whatever it is; else the first failing assertion does.
    """
    verdict = _Verdict(first_failure)
    code = pytest.main([*_OPTIONS, *arguments], plugins=[verdict])
    os._exit(0 if code == 0 else 1 if verdict.assertion else 2)


class _Verdict:
    """Whether a test failed by an assertion; stops the session when that is known."""

    def __init__(self, first_failure: bool) -> None:
        self.assertion, self._first_failure = False, first_failure

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
            return
        self.assertion |= call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
        if self.assertion or self._first_failure:
            item.session.shouldstop = "verdict reached"

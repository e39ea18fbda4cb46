"""Requests to stop: what arrives while waiting, and what arrives twice."""

import os
import signal
import threading
from pathlib import Path

import pytest

from schemas.errors import PreemptedError
from stages.interruption import stop_on_signals
from storage.local import LocalStore


def test_a_second_sigterm_says_nothing_new() -> None:
    """A job manager signals the stage and the flow, which passes it on: the stage must still be let to save."""
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(PreemptedError):
            stop.check()


def test_waiting_for_a_lease_can_be_stopped(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with store.lease("lease"), stop_on_signals() as stop:
        threading.Timer(0.2, stop.ask).start()
        with pytest.raises(PreemptedError), store.lease("lease", check=stop.check):
            pytest.fail("two hold one lease")

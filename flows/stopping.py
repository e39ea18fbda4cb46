"""Ends of a flow in which Prefect recognises what happened."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment

from schemas.errors import PreemptedError


@contextmanager
def as_prefect_ends() -> Iterator[None]:
    """Hand Prefect its own signal back once the stage has saved.

    A deployment's run that is told to stop ends as cancelled or rescheduled only if the signal reaches the engine;
    any other exception would make it a failure. The command `cyborgs run` has no deployment and judges by itself.
    """
    try:
        yield
    except PreemptedError as error:
        if deployment.id is not None and isinstance(error.__cause__, TerminationSignal):
            raise error.__cause__ from error
        raise

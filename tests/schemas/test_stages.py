"""Requests that travel between flow and stage, and the errors with their exit codes."""

import inspect

import pytest
from pydantic import ValidationError

from schemas import errors
from schemas.stages import StageRequest


@pytest.mark.parametrize(
    "wrong", [{"stage": "bake"}, {"cycle": -1}, {"cycle": "two"}, {"color": "red"}, {"run": None}, {"force": "maybe"}]
)
def test_a_request_is_checked(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"run": "r", "stage": "train", "cycle": 0}
    StageRequest.model_validate(good)
    with pytest.raises(ValidationError):
        StageRequest.model_validate(good | wrong)


def test_a_request_survives_the_way_as_json() -> None:
    request = StageRequest(run="s3://bucket/run", stage="train", cycle=2, force=True)
    assert StageRequest.model_validate_json(request.model_dump_json()) == request


def test_every_error_is_ours_and_a_builtin() -> None:
    own = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == "schemas.errors"]
    for error in own:
        assert issubclass(error, errors.CyborgsError)
        if error is not errors.CyborgsError:
            assert issubclass(error, (ValueError, RuntimeError, OSError))


def test_exit_codes() -> None:
    assert errors.ConfigError("x").exit_code == errors.DataError("x").exit_code == errors.RunError("x").exit_code == 2
    assert errors.PreemptedError("x").exit_code == 75
    assert errors.StageFailedError("x").exit_code == 1
    assert errors.StageFailedError("x", exit_code=2).exit_code == 2

"""What every group of settings has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Immutable, no unknown keys, and the text under each field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def ordered(value: tuple[Any, Any]) -> tuple[Any, Any]:
    """A range as it was given.

    Raises:
        ValueError: it ends below its start.
    """
    if value[0] > value[1]:
        raise ValueError(f"the range {value[0]}..{value[1]} is empty: put the smaller number first")
    return value

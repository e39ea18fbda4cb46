"""What every group of settings has in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable, no unknown keys, and the text under each field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

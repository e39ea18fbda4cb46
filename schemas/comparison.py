"""What `cyborgs compare` shows: results that may stand side by side, in plain data."""

from dataclasses import dataclass

from schemas.planned_protocols import ProtocolName


@dataclass(frozen=True)
class Summary:
    """A figure over the seeds of one kind of weights, or the difference of two."""

    mean: float
    half_width: float | None
    """Of the 95 % interval by Student's t; None for a single seed."""


@dataclass(frozen=True)
class Row:
    """One figure in all columns."""

    figure: str
    values: list[Summary | None]
    differences: list[Summary | None]
    """From the first column; None of that itself."""
    paper: tuple[float, str] | None
    """Value, and where it stands."""


@dataclass(frozen=True)
class Table:
    """Results that may be compared: one protocol, the same settings, the same data."""

    protocol: ProtocolName
    smoke: bool
    data: str
    columns: list[tuple[str, int]]
    """Name of the weights, and of how many seeds."""
    rows: list[Row]

"""What a report that is made again and again need not read again: `cyborgs watch` asks every few seconds."""

from collections.abc import Callable
from typing import TypeVar, cast

Value = TypeVar("Value")


class Memory:
    """One value for each name, with the version of what it was made from."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, object]] = {}

    def recall(self, name: str, version: object, make: Callable[[], Value]) -> Value:
        """What `make` gives, made only where the version is another than last time."""
        known = self._known.get(name)
        if known is None or known[0] != version:
            known = self._known[name] = version, make()
        return cast(Value, known[1])

"""YAML as settings are written in: plain values, each once."""

from collections import Counter
from typing import Any

import yaml

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, OverflowError)
"""What `load_yaml` raises. ValueError: not UTF-8, a date that no calendar has, a number of thousands of digits."""


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without references: a few lines of them grow to more than a machine's memory, or into themselves. A
    setting that is given twice is a mistake, where YAML's own rule lets the last one win.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"*{event.anchor}: write the value out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in names.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The value that a text stands for. Raises one of NOT_YAML."""
    return yaml.load(text, _PlainLoader)

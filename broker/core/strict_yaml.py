"""YAML text to plain values, strictly: what people read is what the machine reads, and what they sign.

Invariants (YAML 1.2.2, 10.3 core schema, narrowed)
- Only `true`/`false`, `null`/`~`/nothing and decimal integers are read as such. Everything else is text: `no`
  is a word, `2026-01-01` a text, `0.9` the text "0.9" (a float would not be what was written).
- A key occurs once in a mapping (3.2.1.3) and is text; merge keys and tags are refused.
- An alias (7.1) means its anchor's value, written out: YAML writers set them by themselves where one list is used
  twice. No key is one, none stands inside its own anchor, and written out the file has at most MAX_NODES values.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from broker.core.errors import InputError

MAX_CHARS: Final = 1 << 20
MAX_NODES: Final = 100_000


class _Loader(yaml.SafeLoader):
    """Refuses what the module's invariants refuse; its table of implicit types is its own."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-pyyaml leaves it bare
        if parent is not None and index is None and getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not allowed as a key: write the key out",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(problem="tags are not allowed", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        del deep  # a policy is small: everything is built at once
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be one word", problem_mark=key.start_mark)
            if key.value == "<<":
                raise yaml.MarkedYAMLError(
                    problem="merge keys (<<) are not allowed: write the fields out",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key.value[:60]}` occurs twice: keep one", problem_mark=key.start_mark
                )
            seen.add(key.value)
            key.tag = "tag:yaml.org,2002:str"
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def _written_out(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values a node comes to with its aliases written out; known: of nodes counted so far, 0 while
    counting."""
    if node in known:
        if not known[node]:
            raise yaml.MarkedYAMLError(
                problem="an alias stands inside its own anchor", problem_mark=node.start_mark
            )
        return known[node]
    known[node] = 0
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    known[node] = 1 + sum(_written_out(part, known) for part in inner)
    if known[node] > MAX_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"with its aliases written out it has more than {MAX_NODES} values",
            problem_mark=node.start_mark,
        )
    return known[node]


for _tag, _form, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"|~|null", ["", "~", "n"]),
    ("int", r"-?(?:0|[1-9][0-9]{0,17})", "-0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$", re.ASCII), list(_first)
    )


def read_mapping(text: str, name: str) -> dict[str, Any]:
    """The one mapping that a YAML text holds: values are dict, list, str, int, bool or None.

    `name` is the file's name for messages. Raises InputError (`bad_yaml`) with line and column.
    """
    if len(text) > MAX_CHARS:
        raise InputError("bad_yaml", f"longer than {MAX_CHARS} characters", where=name)
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a narrowed SafeLoader
    except RecursionError:
        raise InputError("bad_yaml", "nested too deeply", where=name) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise InputError("bad_yaml", f"not valid YAML: {error.problem}", where=where) from None
    except yaml.YAMLError as error:
        raise InputError("bad_yaml", f"not valid YAML: {error}".replace("\n", " "), where=name) from None
    if not isinstance(value, dict):
        raise InputError("bad_yaml", "the file must hold one mapping: `field: value` lines", where=name)
    _refuse_half_characters(value, name)
    return value


def _refuse_half_characters(value: Any, name: str) -> None:
    """Escapes can write half of a surrogate pair, which no UTF-8 and so no canonical form can hold."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError("bad_yaml", "an escape in a text is not a Unicode character", where=name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_half_characters(key, name)
            _refuse_half_characters(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _refuse_half_characters(inner, name)

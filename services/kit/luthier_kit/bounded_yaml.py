"""YAML that people edit, read with the line of everything, and bounded while it is read.

A document becomes a tree of `Node`s that know their line and where they stand (`instruments[0].candidates[1].weight`),
so that a fault names both. Aliases and tags are refused: an alias makes a small file as large as one likes.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import yaml

MAX_BYTES: Final = 1 << 20  # a hundred plugins with all their parameters
_MAX_DEPTH, _MAX_NODES = 16, 100_000
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_SHOWN: Final = 80  # characters of a text in a fault


@dataclass
class Node:
    """One value: a text (`plain` = without quotes), a list or a mapping, where it stands, and on which line, from 1."""

    line: int
    path: str = ""
    text: str | None = None
    plain: bool = False
    items: "list[Node] | None" = None
    members: "dict[str, Node] | None" = None

    def __str__(self) -> str:
        """What it is, for a fault."""
        if self.text is not None:
            return repr(self.text[:_SHOWN])
        return "a list" if self.items is not None else "a mapping"

    @property
    def number(self) -> float | None:
        """The finite number that it is, or None."""
        if not (self.plain and self.text and _NUMBER.fullmatch(self.text)):
            return None
        value = float(self.text)
        return value if math.isfinite(value) else None


@dataclass
class Faults:
    """What is wrong with a document, a line of text each, at most `most` of them; `count` are all."""

    most: int = 30
    said: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, node: Node, must: str) -> None:
        self.count += 1
        if len(self.said) < self.most:
            self.said.append(f"line {node.line}: {node.path or 'the file'}: {must}")

    def members(self, node: Node, known: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Node]:
        """The members of a mapping of known names; what is missing or unknown is a fault."""
        if node.members is None:
            self.add(node, f"must be a mapping of {', '.join(known)}, got {node}")
            return {}
        for name, member in node.members.items():
            if name not in known:
                self.add(member, f"is not known: it must be one of {', '.join(known)}")
        for name in needed:
            if name not in node.members:
                self.add(node, f"{name} is missing")
        return {name: member for name, member in node.members.items() if name in known}

    def list(self, node: Node, what: str) -> "list[Node]":
        """The items of a list that is not empty."""
        if not node.items:
            self.add(node, f"must be a list of {what}, got {'an empty list' if node.items is not None else node}")
        return node.items or []

    def within(self, node: Node, low: float, high: float) -> float:
        """A number within bounds; the lower one where it is none."""
        value = node.number
        if value is None or not low <= value <= high:
            self.add(node, f"must be a number between {low:g} and {high:g}, got {node}")
            return low
        return value

    def whole(self, node: Node, low: int, high: int) -> int:
        """A whole number within bounds; the lower one where it is none."""
        value = node.number
        if value is None or value != int(value) or not low <= value <= high:
            self.add(node, f"must be a whole number between {low} and {high}, got {node}")
            return low
        return int(value)

    def string(self, node: Node, pattern: re.Pattern[str], must: str) -> str:
        """A text that matches as a whole; empty where it does not."""
        if node.text is None or not pattern.fullmatch(node.text):
            self.add(node, f"must {must}, got {node}")
            return ""
        return node.text


def read_yaml(data: bytes, faults: Faults) -> Node | None:
    """The one document in `data`, or None with the fault that makes it none or goes beyond a bound."""
    first = Node(1)
    if len(data) > MAX_BYTES:
        faults.add(first, f"must be at most {MAX_BYTES} bytes")
        return None
    try:
        text = data.decode("utf-8-sig")
        return _tree(yaml.parse(text, Loader=yaml.CSafeLoader))
    except UnicodeDecodeError as error:
        faults.add(Node(data[: error.start].count(b"\n") + 1), "must be UTF-8")
    except _Refused as error:
        faults.add(error.node, str(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.add(Node(mark.line + 1 if mark else 1), f"is not YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        faults.add(first, f"is not YAML: {error}"[:300])
    return None


class _Refused(Exception):
    def __init__(self, node: Node, why: str) -> None:
        super().__init__(why)
        self.node = node


def _tree(events: Iterator[yaml.Event]) -> Node:
    """The tree of a document's events, built without recursion."""
    root: Node | None = None
    open_nodes: list[Node] = []
    keys: list[Node | None] = []  # of each open node: the key whose value is next
    nodes = 0
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_nodes.pop()
            keys.pop()
            continue
        node = _node(event, Node(event.start_mark.line + 1 if event.start_mark else 1))
        if node is None:
            continue
        nodes += 1
        if nodes > _MAX_NODES:
            raise _Refused(node, f"must hold at most {_MAX_NODES} values")
        if open_nodes:
            if not _placed(node, open_nodes[-1], keys):
                continue
        elif root:
            raise _Refused(node, "must be one document")
        else:
            root = node
        if node.text is None:
            open_nodes.append(node)
            keys.append(None)
            if len(open_nodes) > _MAX_DEPTH:
                raise _Refused(node, f"must nest at most {_MAX_DEPTH} deep")
    if root is None:
        raise _Refused(Node(1), "is empty")
    return root


def _node(event: yaml.Event, node: Node) -> Node | None:
    """What an event begins, or None."""
    if isinstance(event, yaml.AliasEvent):
        raise _Refused(node, "aliases (*) are not read")
    if isinstance(event, yaml.ScalarEvent):
        node.text, node.plain = event.value, event.style in (None, "")
    elif isinstance(event, yaml.SequenceStartEvent):
        node.items = []
    elif isinstance(event, yaml.MappingStartEvent):
        node.members = {}
    else:
        return None
    if event.tag not in (None, "!"):
        raise _Refused(node, "tags (!) are not read")
    return node


def _placed(node: Node, parent: Node, keys: list[Node | None]) -> bool:
    """Put a node into its parent, and say where it stands. False for a key of a mapping: its value comes next."""
    if parent.items is not None:
        node.path = f"{parent.path}[{len(parent.items)}]"
        parent.items.append(node)
        return True
    assert parent.members is not None
    if (name := keys[-1]) is None:
        node.path = parent.path
        if node.text is None:
            raise _Refused(node, f"a name must be a text, got {node}")
        if node.text in parent.members:
            raise _Refused(node, f"the name {node.text[:_SHOWN]!r} stands twice")
        keys[-1] = node
        return False
    assert name.text is not None
    node.path = f"{parent.path}.{name.text[:_SHOWN]}".lstrip(".")
    parent.members[name.text] = node
    keys[-1] = None
    return True

"""YAML with places: where every key and every value stands in its file."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from fedsched.sim.scenario.base import Place

_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Mark:
    """A place in a text; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        place: Path of the value.
        message: What is wrong with it.
        about_key: Whether the key is meant, not the value.
        mark: Where it stands, if that does not follow from the path.
    """

    place: Place
    message: str
    about_key: bool = False
    mark: Mark | None = None


@dataclass
class MarkedText:
    """A YAML text, the data in it, and where each part of the data stands.

    Attributes:
        name: Name of the file for messages.
        lines: The text by line.
        data: What the text says, None where it is not valid. Keys are text, whatever YAML takes them for.
        keys: Where a key stands, by its path.
        values: Where a value starts, by its path.
        slips: Syntax errors and repeated keys.
    """

    name: str
    lines: list[str]
    data: Any = None
    keys: dict[Place, Mark] = field(default_factory=dict)
    values: dict[Place, Mark] = field(default_factory=dict)
    slips: list[Finding] = field(default_factory=list)

    def mark(self, place: Place, of_key: bool = False) -> Mark:
        """Where a value (or its key) stands; that of the nearest parent where it is missing."""
        if of_key and place in self.keys:
            return self.keys[place]
        while place not in self.values and place:
            place = place[:-1]
        return self.values.get(place, Mark(1, 1))


def read_marked(text: str, name: str) -> MarkedText:
    """Reads a YAML text; whatever is wrong with its form is in `slips`.

    Args:
        text: The text.
        name: Name of the file for messages.
    """
    marked = MarkedText(name, text.splitlines())
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            marked.data = _Walk(marked).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        marked.slips = [
            Finding((), f"not valid YAML: {error.problem or error.context}", mark=_mark(mark) if mark else None)
        ]
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Mark(before.count("\n") + 1, error.position - before.rfind("\n"))
        marked.slips = [Finding((), f"not valid YAML: {error.reason}", mark=place)]
    return marked


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


class _Walk:
    """Turns nodes into data and notes where everything stands."""

    def __init__(self, marked: MarkedText) -> None:
        self.marked = marked
        self.constructor = yaml.constructor.SafeConstructor()
        self.open: list[yaml.Node] = []

    def value(self, node: yaml.Node, place: Place) -> object:
        """The data of a node."""
        if any(node is parent for parent in self.open):
            raise yaml.MarkedYAMLError(problem="an alias within its own anchor", problem_mark=node.start_mark)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} has no meaning here", problem_mark=node.start_mark)
        self.marked.values[place] = _mark(node.start_mark)
        self.open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, place)
            return self.constructor.construct_object(node)
        finally:
            self.open.pop()

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        """The data of a mapping; PyYAML would silently keep the last of repeated keys."""
        own: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key.start_mark)
            mark = _mark(key.start_mark)
            if key.value in own:
                message = f"key {key.value!r} is repeated, first in line {own[key.value]}"
                self.marked.slips.append(Finding((*place, key.value), message, mark=mark))
            own[key.value] = mark.line
        self.constructor.flatten_mapping(node)
        data = {}
        for key, value in node.value:
            below = (*place, key.value)
            self.marked.keys[below] = _mark(key.start_mark)
            data[key.value] = self.value(value, below)
        return data

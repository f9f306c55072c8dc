"""Labelled decisions: what a teacher would choose; joined, cut and kept as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import torch

from fedsched.agents.decisions import Decisions, concatenate

Record = TypeVar("Record")


@dataclass(frozen=True)
class Labelled:
    """Decisions of one kind and what the teacher would choose.

    Attributes:
        decisions: D decisions.
        choice: int64 [D], rows counted inside the decision, or float32 [D, K].
    """

    decisions: Decisions
    choice: torch.Tensor

    def select(self, chosen: torch.Tensor) -> "Labelled":
        """Some decisions, `chosen` int64 [C]."""
        return Labelled(self.decisions.select(chosen), self.choice.index_select(0, chosen))


def merge_labelled(first: Mapping[str, Labelled], second: Mapping[str, Labelled], shift: int) -> dict[str, Labelled]:
    """Labels of both by kind; the moments of the second move by `shift`, behind those of the first."""
    merged = {}
    for name in sorted(first.keys() | second.keys()):
        present = [(part[name], by) for part, by in ((first, 0), (second, shift)) if name in part]
        merged[name] = Labelled(
            concatenate([part.decisions for part, _ in present], [by for _, by in present]),
            torch.cat([part.choice for part, _ in present]),
        )
    return merged


def to_plain(record: object) -> object:
    """A record as nested mappings by field; whatever is no record stays as it is."""
    if not is_dataclass(record):
        return record
    return {field.name: to_plain(getattr(record, field.name)) for field in fields(record)}


def record_from(kind: type[Record], state: Mapping[str, Any]) -> Record:
    """The record that `to_plain` made mappings of."""
    return kind(**_fields(kind, state))


def _fields(kind: type, state: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: _value(hints[name], value) for name, value in state.items()}


def _value(hint: object, value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    [record] = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)]
    return record(**_fields(record, value))

"""The part of JSONPath that DataProcessing of transform jobs knows (batch-transform.md 4).

===================  =============================  ==============================================
``$``                the whole record
``$.id``             a member                       its value alone
``$.id.*``           all members, or items          a list of their values
``$['id','score']``  members by name                one: its value; several: an object of them
``$[1]``, ``$[-1]``  an item                        its value; of CSV a row with this column
``$[1,3,5]``         several items                  a list
``$[2:5]``           items from 2 **to** 5          a list; the end is inclusive, as AWS's text says
===================  =============================  ==============================================

Whatever a path names and a record has not is an error of that record.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clary.errors import Error

_NAME = re.compile(r"\.([^.\[\]'\"*\s]+)")
_WILDCARD = re.compile(r"\.\*|\[\s*\*\s*\]")
_QUOTED = r"(?:'[^']*'|\"[^\"]*\")"
_NAMES = re.compile(rf"\[\s*({_QUOTED}(?:\s*,\s*{_QUOTED})*)\s*\]")
_INDEXES = re.compile(r"\[\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*\]")
_SLICE = re.compile(r"\[\s*(-?\d+)?\s*:\s*(-?\d+)?\s*\]")


class RecordPathError(Error):
    """A path that is none, or a record that does not have what it names."""


@dataclass(frozen=True, slots=True)
class _Names:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wildcard:
    pass


@dataclass(frozen=True, slots=True)
class _Indexes:
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Slice:
    first: int | None
    last: int | None


_Step = _Names | _Wildcard | _Indexes | _Slice


class RecordPath:
    """A path that was read.

    Args:
        text: As in the request.

    Raises:
        RecordPathError: It is none, or uses more of JSONPath than AWS does.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = _parse(text)

    @property
    def is_root(self) -> bool:
        """Whether it selects the whole record."""
        return not self._steps

    @property
    def is_for_rows(self) -> bool:
        """Whether it can be used with CSV, whose records have columns and no names."""
        return self.is_root or (
            len(self._steps) == 1 and isinstance(self._steps[0], _Indexes | _Slice)
        )

    def select(self, record: Any) -> Any:
        """Return what it names of a JSON value.

        Raises:
            RecordPathError: The value does not have it.
        """
        return self._apply(record, self._steps)

    def columns(self, row: Sequence[str]) -> Sequence[str]:
        """Return what it names of a CSV row.

        Raises:
            RecordPathError: The row has fewer columns.
        """
        if not self._steps:
            return row
        return [row[position] for position in self._positions(self._steps[0], len(row))]

    def _apply(self, value: Any, steps: Sequence[_Step]) -> Any:
        if not steps:
            return value
        step, rest = steps[0], steps[1:]
        if isinstance(step, _Names):
            if not isinstance(value, dict):
                raise self._missing(step.names[0])
            for name in step.names:
                if name not in value:
                    raise self._missing(name)
            if len(step.names) == 1:
                return self._apply(value[step.names[0]], rest)
            return {name: self._apply(value[name], rest) for name in step.names}
        if isinstance(step, _Wildcard):
            if not isinstance(value, dict | list):
                raise self._missing("*")
            items = value.values() if isinstance(value, dict) else value
            return [self._apply(item, rest) for item in items]
        if not isinstance(value, list):
            raise self._missing("an item, for it is no array")
        chosen = [self._apply(value[i], rest) for i in self._positions(step, len(value))]
        is_single = isinstance(step, _Indexes) and len(step.indexes) == 1
        return chosen[0] if is_single else chosen

    def _positions(self, step: _Step, count: int) -> Sequence[int]:
        if isinstance(step, _Indexes):
            return [self._position(index, count) for index in step.indexes]
        assert isinstance(step, _Slice), "checked by is_for_rows"
        first = 0 if step.first is None else self._position(step.first, count)
        last = count - 1 if step.last is None else self._position(step.last, count)
        return range(first, last + 1)

    def _position(self, index: int, count: int) -> int:
        position = index + count if index < 0 else index
        if not 0 <= position < count:
            raise RecordPathError(
                f"{self.text}: index {index} is outside of a record of {count} items."
            )
        return position

    def _missing(self, what: str) -> RecordPathError:
        return RecordPathError(f"{self.text}: the record does not have {what}.")


def _parse(text: str) -> tuple[_Step, ...]:
    if not text.startswith("$"):
        raise RecordPathError(f'"{text}" is no path: it must begin with "$".')
    steps: list[_Step] = []
    position = 1
    while position < len(text):
        step, position = _step(text, position)
        steps.append(step)
    return tuple(steps)


def _step(text: str, position: int) -> tuple[_Step, int]:
    if match := _WILDCARD.match(text, position):
        return _Wildcard(), match.end()
    if match := _NAME.match(text, position):
        return _Names((match[1],)), match.end()
    if match := _NAMES.match(text, position):
        names = tuple(name[1:-1] for name in re.findall(_QUOTED, match[1]))
        return _Names(names), match.end()
    if match := _INDEXES.match(text, position):
        return _Indexes(tuple(int(index) for index in match[1].split(","))), match.end()
    if match := _SLICE.match(text, position):
        first, last = (None if end is None else int(end) for end in match.groups())
        return _Slice(first, last), match.end()
    raise RecordPathError(
        f'"{text}" cannot be used as a path, from "{text[position:]}" on. What can be: $, $.name, '
        "$.name.*, $['name','other'], $[1], $[1,3], $[-1], $[2:5]."
    )

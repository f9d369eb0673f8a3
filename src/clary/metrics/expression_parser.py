"""Reads metric math: text to a tree. Pure.

Grammar, loosest binding first::

    either     = both { ("||" | "OR") both }
    both       = comparison { ("&&" | "AND") comparison }
    comparison = sum { ("==" | "!=" | "<=" | ">=" | "<" | ">") sum }
    sum        = product { ("+" | "-") product }
    product    = sign { ("*" | "/") sign }
    sign       = [ "-" | "+" ] power
    power      = atom [ "^" sign ]
    atom       = number | text | name | name "(" [ either { "," either } ] ")"
               | "[" either { "," either } "]" | "(" either ")"
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from clary.errors import InvalidRequest

MAX_LENGTH = 2048
MAX_DEPTH = 40
"""Deepest nesting of brackets and signs."""


class ExpressionError(InvalidRequest):
    """The text is no expression."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string in quotes."""

    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """The id of another query, or a word such as REPEAT."""

    value: str


@dataclass(frozen=True, slots=True)
class Negation:
    """A minus sign before something."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Operation:
    """Two things with an operator between them."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    function: str
    """In capitals."""
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Several things in square brackets."""

    items: tuple["Node", ...]


Node: TypeAlias = Number | Text | Name | Negation | Operation | Call | Sequence

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/^<>(),\[\]]))"
)
_LEVELS = (
    {"||": "||", "OR": "||"},
    {"&&": "&&", "AND": "&&"},
    {sign: sign for sign in ("==", "!=", "<=", ">=", "<", ">")},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/"},
)


def parse_expression(text: str) -> Node:
    """Return the tree of an expression.

    Raises:
        ExpressionError: It is none, or too long or deeply nested.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"An expression has at most {MAX_LENGTH} characters.")
    parser = _Parser(text)
    node = parser.binary(0)
    if parser.next is not None:
        raise parser.unexpected()
    return node


def names_in(node: Node) -> set[str]:
    """Return the ids that an expression may refer to."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Name):
            found.add(each.value)
        elif isinstance(each, Negation):
            waiting.append(each.operand)
        elif isinstance(each, Operation):
            waiting += (each.left, each.right)
        elif isinstance(each, Call):
            waiting += each.arguments
        elif isinstance(each, Sequence):
            waiting += each.items
    return found


class _Parser:
    """Walks the tokens; ``next`` is the one to look at, None at the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0
        self.kind = ""
        self.next: str | None = None
        self.advance()

    def advance(self) -> str:
        taken = self.next or ""
        found = _TOKEN.match(self._text, self._position)
        if found is None:
            if self._text[self._position :].strip():
                raise ExpressionError(
                    f"The expression {self._text!r} cannot be read from position "
                    f"{self._position + 1} on."
                )
            self.kind, self.next = "", None
        else:
            self.kind = found.lastgroup or ""
            self.next = found[self.kind]
            self._position = found.end()
        return taken

    def unexpected(self) -> ExpressionError:
        what = "the end" if self.next is None else repr(self.next)
        return ExpressionError(f"Unexpected {what} in the expression {self._text!r}.")

    def expect(self, sign: str) -> None:
        if self.next != sign:
            raise self.unexpected()
        self.advance()

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.signed()
        node = self.binary(level + 1)
        while (operator := self._operator(level)) is not None:
            self.advance()
            node = Operation(operator, node, self.binary(level + 1))
        return node

    def _operator(self, level: int) -> str | None:
        if self.next is None or self.kind not in ("sign", "name"):
            return None
        return _LEVELS[level].get(self.next)

    def signed(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError("The expression is nested too deeply.")
        try:
            if self.kind == "sign" and self.next in ("-", "+"):
                is_negative = self.advance() == "-"
                operand = self.signed()
                return Negation(operand) if is_negative else operand
            base = self.atom()
            if self.kind == "sign" and self.next == "^":
                self.advance()
                return Operation("^", base, self.signed())
            return base
        finally:
            self._depth -= 1

    def atom(self) -> Node:
        if self.kind == "number":
            return Number(float(self.advance()))
        if self.kind == "text":
            return Text(self.advance()[1:-1])
        if self.kind == "name" and self.next not in ("AND", "OR"):
            name = self.advance()
            if self.next == "(":
                return Call(name.upper(), self._list("(", ")"))
            return Name(name)
        if self.next == "[":
            return Sequence(self._list("[", "]"))
        if self.next == "(":
            self.advance()
            node = self.binary(0)
            self.expect(")")
            return node
        raise self.unexpected()

    def _list(self, opening: str, closing: str) -> tuple[Node, ...]:
        self.expect(opening)
        items: list[Node] = []
        if self.next != closing:
            items.append(self.binary(0))
            while self.next == ",":
                self.advance()
                items.append(self.binary(0))
        self.expect(closing)
        return tuple(items)

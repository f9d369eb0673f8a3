"""JSON selectors of filter patterns: ``{ $.user.id = 1 && $.tags[0] = "a*" }``.

A parser by recursive descent; each rule returns a function of a decoded message::

    selector   = "{" any "}"
    any        = all { "||" all }
    all        = condition { "&&" condition }
    condition  = "(" any ")" | path test
    path       = "$" { "." name | "[" number "]" | "['" name "']" }
    test       = ("=" | "!=") value | ("<" | "<=" | ">" | ">=") number
               | "IS" ("TRUE" | "FALSE" | "NULL") | "NOT EXISTS" | "EXISTS"
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from clary.errors import InvalidRequest

Selector = Callable[[Any], bool]
"""Whether a decoded message is wanted."""

MAX_DEPTH = 50
"""Most parentheses in each other."""

_MISSING = object()

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<path>\$(?:\.[\w-]+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])*)
    | (?P<mark>\&\&|\|\||!=|<=|>=|[{}()=<>])
    | "(?P<quoted>(?:[^"\\]|\\.)*)"
    | (?P<word>[^\s{}()=<>!&|"]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_STEP = re.compile(r"""\.([\w-]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KEYWORDS: dict[str, Any] = {"TRUE": True, "FALSE": False, "NULL": None}


def parse_selector(text: str) -> Selector:
    """Return what a selector in braces wants.

    Raises:
        InvalidRequest: It is none.
    """
    return _Parser(_tokens(text)).parse()


def _refuse(what: str) -> NoReturn:
    raise InvalidRequest(f"Invalid filter pattern: {what}.")


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, text = 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _refuse(f"cannot read {text[position : position + 20].strip()!r}")
        kind = match.lastgroup
        assert kind is not None
        tokens.append((kind, match[kind]))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def parse(self) -> Selector:
        self._expect("{")
        selector = self._any()
        self._expect("}")
        if self._position < len(self._tokens):
            _refuse("there is more behind the closing brace")
        return selector

    def _any(self) -> Selector:
        parts = [self._all()]
        while self._take("||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)

    def _all(self) -> Selector:
        parts = [self._condition()]
        while self._take("&&"):
            parts.append(self._condition())
        return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)

    def _condition(self) -> Selector:
        if self._take("("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                _refuse("too many parentheses")
            inner = self._any()
            self._expect(")")
            self._depth -= 1
            return inner
        kind, text = self._next("a field such as $.name")
        if kind != "path":
            _refuse(f"a field such as $.name is wanted, not {text!r}")
        steps = [
            int(index) if index else name or single or double
            for name, index, single, double in _STEP.findall(text)
        ]
        test = self._test()
        return lambda value: test(_look_up(value, steps))

    def _test(self) -> Selector:
        kind, text = self._next("a comparison")
        if kind == "mark" and text in _ORDER:
            return _ordered(text, self._number())
        if kind == "mark" and text in ("=", "!="):
            equals = self._equality()
            if text == "=":
                return equals
            # A field that is not there is not unequal to anything.
            return lambda value: value is not _MISSING and not equals(value)
        word = text.upper() if kind == "word" else ""
        if word == "IS":
            return self._keyword()
        if word == "EXISTS":
            return lambda value: value is not _MISSING
        if word == "NOT":
            kind, text = self._next("EXISTS")
            if kind == "word" and text.upper() == "EXISTS":
                return lambda value: value is _MISSING
        _refuse(f"a comparison is wanted, not {text!r}")

    def _keyword(self) -> Selector:
        kind, text = self._next("TRUE, FALSE or NULL")
        if kind != "word" or text.upper() not in _KEYWORDS:
            _refuse(f"TRUE, FALSE or NULL is wanted, not {text!r}")
        wanted = _KEYWORDS[text.upper()]
        return lambda value: value is wanted

    def _number(self) -> float:
        kind, text = self._next("a number")
        if kind != "word" or not _NUMBER.match(text):
            _refuse(f"a number is wanted, not {text!r}")
        return float(text)

    def _equality(self) -> Selector:
        kind, text = self._next("a value")
        if kind == "word" and _NUMBER.match(text):
            number = float(text)
            return lambda value: _as_number(value) == number or value == text
        if kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
        elif kind != "word":
            _refuse(f"a value is wanted, not {text!r}")
        elif text.startswith("%"):
            _refuse("regular expressions are not built here")
        pieces = text.split("*")
        return lambda value: isinstance(value, str) and _is_like(value, pieces)

    def _next(self, wanted: str) -> tuple[str, str]:
        if self._position == len(self._tokens):
            _refuse(f"it ends where {wanted} is wanted")
        self._position += 1
        return self._tokens[self._position - 1]

    def _take(self, mark: str) -> bool:
        if self._tokens[self._position : self._position + 1] == [("mark", mark)]:
            self._position += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            _refuse(f"{mark!r} is missing")


def _look_up(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return _MISSING
            value = value[step]
        else:
            if not isinstance(value, dict) or step not in value:
                return _MISSING
            value = value[step]
    return value


def _as_number(value: Any) -> float:
    """Return a JSON number; NaN, which nothing equals, for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _ordered(mark: str, number: float) -> Selector:
    compare = _ORDER[mark]
    return lambda value: compare(_as_number(value), number)


def _is_like(text: str, pieces: Sequence[str]) -> bool:
    """Whether a text is the pieces with anything between them. Never looks back."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    if not text.startswith(first) or len(text) < len(first) + len(last):
        return False
    position = len(first)
    for piece in middle:
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return text.endswith(last) and position <= len(text) - len(last)

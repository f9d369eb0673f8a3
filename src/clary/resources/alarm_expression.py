"""The rule of a composite alarm: text to a tree, and a tree to true or false.

::

    rule   = term { OR term }
    term   = factor { AND factor }
    factor = NOT factor | "(" rule ")" | TRUE | FALSE
           | ( ALARM | OK | INSUFFICIENT_DATA ) "(" alarm ")"
    alarm  = name or ARN, in double quotes where it has characters that end it

Words are read in any case, as AWS does. NOT binds tighter than AND, AND tighter than OR.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from clary.errors import InvalidRequest
from clary.resources.alarm import AlarmValue, alarm_name

MAX_CHILDREN = 100
MAX_ELEMENTS = 500
"""Most alarms, TRUEs, FALSEs and parentheses together, as AWS counts them."""


@dataclass(frozen=True, slots=True)
class Always:
    """TRUE or FALSE."""

    value: bool


@dataclass(frozen=True, slots=True)
class Is:
    """Whether an alarm is in a state."""

    value: AlarmValue
    alarm: str
    """Its name, also where the rule has its ARN."""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    of: "Rule"


@dataclass(frozen=True, slots=True)
class All:
    """AND."""

    of: tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """OR."""

    of: tuple["Rule", ...]


Rule: TypeAlias = Always | Is | Not | All | Any


def parse_rule(text: str) -> Rule:
    """Return the rule that a text says.

    Raises:
        InvalidRequest: It says none, or more than AWS takes.
    """
    tokens = list(_tokens(text))
    parser = _Parser(text, tokens)
    rule = parser.rule()
    if parser.peek() is not None:
        raise parser.unexpected()
    elements = sum(1 for kind, _ in tokens if kind in ("open", "close", "alarm", "constant"))
    if elements > MAX_ELEMENTS:
        raise _invalid(f"it has {elements} elements, and at most {MAX_ELEMENTS} are allowed")
    if len(children(rule)) > MAX_CHILDREN:
        raise _invalid(
            f"it names {len(children(rule))} alarms, and at most {MAX_CHILDREN} are allowed"
        )
    return rule


def children(rule: Rule) -> tuple[str, ...]:
    """Return the names of the alarms in a rule, each once, in order."""
    return tuple(dict.fromkeys(_names(rule)))


def holds(rule: Rule, state_of: Callable[[str], AlarmValue]) -> bool:
    """Return whether a rule is true.

    Args:
        rule: The rule.
        state_of: State of an alarm by its name; one that is gone has INSUFFICIENT_DATA.
    """
    match rule:
        case Always(value):
            return value
        case Is(value, alarm):
            return state_of(alarm) is value
        case Not(of):
            return not holds(of, state_of)
        case All(parts):
            return all(holds(part, state_of) for part in parts)
        case Any(parts):
            return any(holds(part, state_of) for part in parts)


def _names(rule: Rule) -> Iterator[str]:
    match rule:
        case Is(_, alarm):
            yield alarm
        case Not(of):
            yield from _names(of)
        case All(parts) | Any(parts):
            for part in parts:
                yield from _names(part)
        case Always():
            pass


_STATE = re.compile(r"(ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]+)"\s*\)')
_BARE = re.compile(r'([^()"\s][^()"]*?)\s*\)')
_WORD = re.compile(r"(AND|OR|NOT|TRUE|FALSE)(?![\w-])", re.IGNORECASE)
_SPACE = re.compile(r"\s*")

_Token = tuple[str, object]


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while True:
        position = _end(_SPACE.match(text, position))
        if position == len(text):
            return
        if text[position] in "()":
            yield ("open" if text[position] == "(" else "close"), None
            position += 1
            continue
        if state := _STATE.match(text, position):
            name = _QUOTED.match(text, state.end()) or _BARE.match(text, state.end())
            if name is None:
                raise _invalid(f"no alarm is named after {state[0].strip()!r} at {position}")
            yield "alarm", Is(AlarmValue(state[1].upper()), alarm_name(name[1]))
            position = name.end()
            continue
        word = _WORD.match(text, position)
        if word is None:
            raise _invalid(f"{text[position : position + 40]!r} at {position} is not understood")
        upper = word[1].upper()
        yield ("constant", upper == "TRUE") if upper in ("TRUE", "FALSE") else (upper, None)
        position = word.end()


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "it matches the empty text too"
    return match.end()


class _Parser:
    """Recursive descent; the number of elements bounds its depth."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def peek(self) -> str | None:
        """Return the kind of the next token; None at the end."""
        return self._tokens[self._position][0] if self._position < len(self._tokens) else None

    def unexpected(self) -> InvalidRequest:
        kind = self.peek()
        found = "the end" if kind is None else {"open": "(", "close": ")"}.get(kind, kind)
        return _invalid(f"{found} is not expected after {self._position} elements")

    def rule(self) -> Rule:
        parts = [self._term()]
        while self._take("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _term(self) -> Rule:
        parts = [self._factor()]
        while self._take("AND"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _factor(self) -> Rule:
        self._depth += 1
        if self._depth > MAX_ELEMENTS // 4:
            raise _invalid("it is nested too deep")
        try:
            return self._inner()
        finally:
            self._depth -= 1

    def _inner(self) -> Rule:
        if self._take("NOT"):
            return Not(self._factor())
        if self._take("open"):
            rule = self.rule()
            if not self._take("close"):
                raise self.unexpected()
            return rule
        if self.peek() in ("alarm", "constant"):
            value = self._tokens[self._position][1]
            self._position += 1
            return value if isinstance(value, Is) else Always(bool(value))
        raise self.unexpected()

    def _take(self, kind: str) -> bool:
        if self.peek() != kind:
            return False
        self._position += 1
        return True


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid AlarmRule: {why}.")

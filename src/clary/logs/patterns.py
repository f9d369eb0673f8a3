"""Filter patterns of CloudWatch Logs: which events FilterLogEvents returns.

==========================  ====================================================================
``ERROR timeout``           both terms are somewhere in the message; case counts
``"out of memory"``         the text is, with its spaces
``?ERROR ?WARN``            one of them is (counts only where nothing else is asked for, as on AWS)
``ERROR -retry``            the first is, the second is not
``{ $.status >= 500 }``     the message is JSON whose field is so: ``= != < <= > >=``, ``IS TRUE``,
                            ``IS FALSE``, ``IS NULL``, ``NOT EXISTS``, joined by ``&&``, ``||`` and
                            parentheses; ``*`` in a value stands for any text
==========================  ====================================================================

``parse`` turns a pattern into a function of a message. Space-delimited patterns (``[a, b]``) and
regular expressions (``%...%``) are refused: the latter could hold up the server for hours.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from clary.errors import InvalidRequest
from clary.logs.json_selectors import parse_selector

Matcher = Callable[[str], bool]
"""Whether a message is wanted."""

# A term without quotes: letters of any script, digits, underscore and what rarely means more.
_TERM = re.compile(r'(?P<mark>[?-]?)(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"]+))')
_PLAIN = re.compile(r"[\w.:/@#$*,;'=<>+!~-]+\Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse(pattern: str) -> Matcher:
    """Return what a pattern matches.

    Raises:
        InvalidRequest: It is no pattern, or one of a kind that is not built.
    """
    text = pattern.strip()
    if text.startswith("{"):
        return _parse_json(text)
    if text.startswith("["):
        raise InvalidRequest("Invalid filter pattern: space-delimited patterns are not built here.")
    if text.startswith("%"):
        raise InvalidRequest("Invalid filter pattern: regular expressions are not built here.")
    return _parse_terms(text)


def _parse_terms(text: str) -> Matcher:
    wanted: list[str] = []
    unwanted: list[str] = []
    either: list[str] = []
    by_mark = {"": wanted, "-": unwanted, "?": either}
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        if match is None:
            raise InvalidRequest("Invalid filter pattern: a quotation mark is not closed.")
        position = match.end()
        term = _ESCAPE.sub(r"\1", match["quoted"]) if match["plain"] is None else match["plain"]
        if match["plain"] is not None and not _PLAIN.match(term):
            raise InvalidRequest(
                f"Invalid character(s) in term '{match[0][:100]}': put it in quotation marks."
            )
        if term:
            by_mark[match["mark"]].append(term)

    def matches(message: str) -> bool:
        if any(term in message for term in unwanted):
            return False
        if wanted or not either:
            return all(term in message for term in wanted)
        return any(term in message for term in either)

    return matches


def _parse_json(text: str) -> Matcher:
    selector = parse_selector(text)

    def matches(message: str) -> bool:
        start = message.find("{")
        if start < 0 or message[:start].strip():
            return False
        try:
            value: Any = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return selector(value)

    return matches

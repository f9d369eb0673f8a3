r"""The models' regular expressions, which are Java's, as Python's.

They differ in ``\p{...}`` classes, surrogate pairs, ``\z``, and in what a hyphen behind a class
means. Java's ``matches`` is a full match, and its ``\d \s \w`` know ASCII only.
"""

import re
import sys
import unicodedata
from functools import lru_cache

_ASCII_CLASSES = {
    "Alnum": "0-9A-Za-z",
    "Alpha": "A-Za-z",
    "ASCII": "\\x00-\\x7f",
    "Blank": " \\t",
    "Cntrl": "\\x00-\\x1f\\x7f",
    "Digit": "0-9",
    "Graph": "!-~",
    "Lower": "a-z",
    "Print": " -~",
    "Punct": "!-/:-@\\[-`{-~",
    "Space": "\\t-\\r ",
    "Upper": "A-Z",
    "XDigit": "0-9A-Fa-f",
}
_TOKEN = re.compile(r"\\p\{\w+\}|\\p[A-Z]|\\.|.", re.DOTALL)
_SURROGATES = re.compile(r"\\u([Dd][89ABab][0-9A-Fa-f]{2})\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_HYPHEN = re.compile(r"(\\[dswDSW])-(?!\])")


def matches(pattern: str, value: str) -> bool:
    """Return whether a value as a whole matches a pattern of a service model.

    A pattern that Python cannot express matches everything.
    """
    expression = _compile(pattern, value.isascii() or "\\p" not in pattern)
    return expression is None or expression.fullmatch(value) is not None


@lru_cache(maxsize=2048)
def _compile(pattern: str, is_ascii: bool) -> re.Pattern[str] | None:
    """Compile a pattern; for ASCII values its Unicode classes can stay small."""
    limit = 0x80 if is_ascii else sys.maxunicode + 1
    try:
        translated = _SURROGATES.sub(_join_surrogates, pattern)
        translated = _translate_classes(translated, limit)
        translated = _HYPHEN.sub(r"\1\\-", translated).replace("\\z", "\\Z")
        # A quantified end of text, which some models have, is just the end of text.
        translated = re.sub(r"(?<!\\)\$\{\d+,\d+\}", "$", translated)
        return re.compile(translated, re.ASCII)
    except (re.error, OverflowError, KeyError):
        return None


def _translate_classes(pattern: str, limit: int) -> str:
    r"""Write ``\p{...}`` out, and escape brackets within brackets, which Python warns of."""
    parts = []
    in_brackets = False
    for piece in _TOKEN.findall(pattern):
        if piece.startswith("\\p"):
            name = piece[2:].strip("{}")
            ranges = _ASCII_CLASSES.get(name) or _category(name, limit)
            parts.append(ranges if in_brackets else f"[{ranges}]")
        elif piece == "[" and in_brackets:
            parts.append("\\[")
        else:
            in_brackets = piece == "[" or (in_brackets and piece != "]")
            parts.append(piece)
    return "".join(parts)


@lru_cache(maxsize=64)
def _category(name: str, limit: int) -> str:
    """Return the ranges of a general category, such as ``L`` or ``Zs``, below a code point."""
    ranges: list[list[int]] = []
    for code in range(limit):
        if unicodedata.category(chr(code)).startswith(name):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


def _join_surrogates(found: re.Match[str]) -> str:
    high, low = int(found[1], 16), int(found[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

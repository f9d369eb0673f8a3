"""Content types: what a request's body is, and what the client wants back.

The toolkits compare header values as they stand, so that ``application/json; charset=utf-8`` is
unknown to them, and ``q`` values too. Reading them properly breaks no client that works there.
"""

from typing import List, Sequence, Tuple

DEFAULT_CONTENT_TYPE = "application/json"


def media_type(value: str) -> str:
    """Return a content type without its parameters, in lower case; the default for nothing."""
    return value.partition(";")[0].strip().lower() or DEFAULT_CONTENT_TYPE


def parse_accept(value: str) -> List[str]:
    """Return the media ranges of an Accept header, most wanted first, refused ones left out.

    Ranges of equal weight keep their order. A weight that is no number counts as 1.
    """
    ranges: List[Tuple[float, str]] = []
    for element in value.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    weight = float(number)
                except ValueError:
                    weight = 1.0
        if weight > 0:
            ranges.append((weight, name.lower()))
    ranges.sort(key=lambda pair: -pair[0])
    return [name for _, name in ranges]


def choose(accept: str, default: str, known: Sequence[str]) -> str:
    """Return the one type that a reply should have.

    Args:
        accept: The Accept header; empty when there is none.
        default: What ``*/*`` or nothing asks for.
        known: What the encoder can make; empty when that is the user's own, who decides.

    Returns:
        The most wanted of the known types; where none is known, the most wanted one, which the
        encoder then refuses.
    """
    wanted = [_concrete(name, default, known) for name in parse_accept(accept)] or [default]
    for name in wanted:
        if not known or name in known:
            return name
    return wanted[0]


def _concrete(name: str, default: str, known: Sequence[str]) -> str:
    """Return the type that a range such as ``application/*`` stands for."""
    if not name.endswith("/*"):
        return name
    prefix = name[:-1]
    if name == "*/*" or default.startswith(prefix):
        return default
    return next((other for other in known if other.startswith(prefix)), name)

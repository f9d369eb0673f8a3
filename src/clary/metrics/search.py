"""SEARCH of metric math, in its common form.

``{Namespace, DimensionA, DimensionB} words``: metrics of that namespace with exactly these
dimensions, in whose name, dimension names or values each word occurs. ``MetricName="..."`` and
``Name="value"`` are exact; ``OR``, ``NOT`` and brackets are not understood, and refused.
"""

import re
from dataclasses import dataclass

from clary.metrics.expression_parser import ExpressionError
from clary.metrics.series import MetricKey, MetricStore

MAX_FOUND = 500
"""Most metrics of one search, as in CloudWatch."""

_SCHEMA = re.compile(r"\s*\{([^}]*)\}\s*(.*)", re.DOTALL)
_TERM = re.compile(r'\s*(?:([A-Za-z0-9_.:/-]+)\s*=\s*)?("(?:[^"]*)"|[^\s"=()]+)')


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for."""

    namespace: str | None
    dimensions: frozenset[str] | None
    """Exactly these names; None: any."""
    exact: tuple[tuple[str, str], ...]
    words: tuple[str, ...]

    def matches(self, key: MetricKey) -> bool:
        """Whether a metric is one of those."""
        dimensions = dict(key.dimensions)
        if self.dimensions is not None and dimensions.keys() != self.dimensions:
            return False
        known = {**dimensions, "MetricName": key.name, "Namespace": key.namespace}
        if any(known.get(name) != value for name, value in self.exact):
            return False
        text = " ".join([key.name, *dimensions, *dimensions.values()]).lower()
        return all(word in text for word in self.words)


def parse_search(text: str) -> Search:
    """Return what a search looks for.

    Raises:
        ExpressionError: It is of a form that is not understood.
    """
    namespace, dimensions, rest = None, None, text
    found = _SCHEMA.fullmatch(text)
    if found:
        names = [name.strip().strip('"') for name in found[1].split(",")]
        namespace, rest = names[0] or None, found[2]
        dimensions = frozenset(names[1:])
    exact: list[tuple[str, str]] = []
    words: list[str] = []
    position = 0
    while rest[position:].strip():
        term = _TERM.match(rest, position)
        if term is None or term[2] in ("OR", "NOT"):
            raise ExpressionError(f"The search {text!r} is of a kind that is not supported.")
        position = term.end()
        value = term[2].strip('"')
        if term[1]:
            exact.append((term[1], value))
        elif term[2] != "AND":
            words.append(value.lower())
    return Search(namespace, dimensions, tuple(exact), tuple(words))


async def find_metrics(store: MetricStore, text: str) -> list[MetricKey]:
    """Return the metrics that a search finds, in order."""
    search = parse_search(text)
    keys = await store.list_metrics(namespace=search.namespace)
    return [key for key in keys if search.matches(key)][:MAX_FOUND]

"""Families as text for Prometheus, in its own format or as OpenMetrics. Pure.

Own code, for it is short and has to be fast: a thousand variants are 60,000 lines, which the
library ``prometheus_client`` needs nine times as long for. The tests read it by that library's
parsers.
"""

import math
from collections.abc import Iterable, Iterator

from clary.metrics.families import Definition, Family, Histogram, Kind

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

ROWS_AT_ONCE = 250
"""Series in one piece of the text, between which others get their turn."""

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def wants_open_metrics(accept: str) -> bool:
    """Whether a client prefers OpenMetrics, by its ``Accept`` header."""
    best = {"application/openmetrics-text": -1.0, "text/plain": 0.0}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in best:
            best[name] = max(best[name], _quality(parameters))
    return best["application/openmetrics-text"] >= best["text/plain"]


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def render(families: Iterable[Family], *, open_metrics: bool) -> Iterator[str]:
    """Give the text in pieces.

    Args:
        families: Each name once.
        open_metrics: Whether as OpenMetrics.
    """
    for family in families:
        head = _head(family.definition, open_metrics=open_metrics)
        rows = family.rows
        yield head
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield _rows(family.definition, rows[start : start + ROWS_AT_ONCE])
    if open_metrics:
        yield "# EOF\n"


def _head(definition: Definition, *, open_metrics: bool) -> str:
    name = definition.name
    if open_metrics and definition.kind is Kind.COUNTER:
        name = name.removesuffix("_total")
    text = definition.help.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {text}\n", f"# TYPE {name} {definition.kind}\n"]
    if open_metrics and definition.unit and name.endswith(f"_{definition.unit}"):
        lines.append(f"# UNIT {name} {definition.unit}\n")
    return "".join(lines)


def _rows(definition: Definition, rows: Iterable[tuple[tuple[str, ...], float | Histogram]]) -> str:
    name, names = definition.name, definition.labels
    ends = [f'le="{_number(edge)}"}} ' for edge in definition.edges] + ['le="+Inf"} ']
    lines: list[str] = []
    for values, value in rows:
        labels = ",".join(
            f'{label}="{_escaped(text)}"' for label, text in zip(names, values, strict=True)
        )
        if not isinstance(value, Histogram):
            lines.append(f"{name}{{{labels}}} {_number(value)}\n" if labels else _bare(name, value))
            continue
        start = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        total = 0
        for end, count in zip(ends, value.counts, strict=True):
            total += count
            lines.append(f"{start}{end}{total}\n")
        shown = f"{{{labels}}}" if labels else ""
        lines.append(f"{name}_count{shown} {total}\n{name}_sum{shown} {_number(value.sum)}\n")
    return "".join(lines)


def _bare(name: str, value: float) -> str:
    return f"{name} {_number(value)}\n"


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def _escaped(text: str) -> str:
    if '"' in text or "\\" in text or "\n" in text:
        return text.translate(_ESCAPES)
    return text

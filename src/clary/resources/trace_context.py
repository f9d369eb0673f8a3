"""W3C Trace Context: which trace a call belongs to (https://www.w3.org/TR/trace-context/).

Read leniently where the standard wants it: what is no context is none, and no error; versions to
come are read as far as they are known.
"""

import re
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

MAX_STATE = 2048
"""Longest ``tracestate`` that is passed on, in characters; the standard asks for 512."""

SAMPLED = 1

_PARENT = re.compile(
    "([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?"
)
_STATE = re.compile("[ -~]*")


class TraceContext(NamedTuple):
    """The caller's part of a trace."""

    trace_id: str
    """32 hexadecimal digits."""

    span_id: str
    """Of the caller's span, 16 hexadecimal digits."""

    flags: int
    state: str = ""
    """``tracestate``: what tracing systems say among themselves. Empty: nothing."""

    @property
    def is_sampled(self) -> bool:
        """Whether the caller keeps its spans, so that others should as well."""
        return bool(self.flags & SAMPLED)

    @property
    def parent(self) -> str:
        """The value of ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> dict[str, str]:
        """Return the headers that carry it."""
        named = {TRACEPARENT: self.parent}
        return {**named, TRACESTATE: self.state} if self.state else named


def read_context(parent: str, state: str = "") -> TraceContext | None:
    """Return what two headers say; None: no context.

    Args:
        parent: Value of ``traceparent``.
        state: Value of ``tracestate``; empty: there is none.
    """
    match = _PARENT.fullmatch(parent.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more):
        return None
    state = state.strip()
    if len(state) > MAX_STATE or _STATE.fullmatch(state) is None:
        state = ""
    return TraceContext(trace_id, span_id, int(flags, 16) & SAMPLED, state)

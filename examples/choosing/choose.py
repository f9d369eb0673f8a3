"""Which kind of inference fits: decided from a few numbers about the traffic. Pure.

The limits are AWS's; Clary has the same.
"""

from dataclasses import dataclass
from enum import StrEnum

REAL_TIME_MB, REAL_TIME_S = 25, 60
SERVERLESS_MB, SERVERLESS_S = 4, 60
ASYNC_MB, ASYNC_S = 1024, 3600

COLD_START_S = 5.0
"""Whoever cannot wait so long for the first call after a pause needs something that is up."""

BUSY_SHARE = 0.05
"""Below this share of the time that calls take, an instance that waits for them is mostly idle."""

SECONDS_A_DAY = 86_400


class Kind(StrEnum):
    """What SageMaker has."""

    REAL_TIME = "real-time endpoint"
    SERVERLESS = "serverless endpoint"
    ASYNC = "asynchronous endpoint"
    BATCH = "transform job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is known of the calls."""

    calls_per_day: float
    seconds_per_call: float
    """What the model takes."""

    largest_mb: float
    """Longest request."""

    answer_within_s: float | None
    """How long who asks can wait. None: nobody waits, there are files to be worked through."""


def choose(traffic: Traffic) -> tuple[Kind, str]:
    """Return the kind that fits, and why.

    Raises:
        ValueError: Nothing fits: the request, or the time that it takes, is too large.
    """
    size, took_s, wait_s = traffic.largest_mb, traffic.seconds_per_call, traffic.answer_within_s
    if wait_s is None:
        return Kind.BATCH, "nobody waits for an answer: instances come, work and go"
    if size > ASYNC_MB or took_s > ASYNC_S:
        raise ValueError("no endpoint takes this: cut the input into pieces, for a transform job")
    if size > REAL_TIME_MB or took_s > REAL_TIME_S:
        return Kind.ASYNC, f"{size:g} MB or {took_s:g} s are too much to wait for on a connection"
    share = traffic.calls_per_day * took_s / SECONDS_A_DAY
    is_small = size <= SERVERLESS_MB and took_s <= SERVERLESS_S
    if share < BUSY_SHARE and is_small and wait_s >= took_s + COLD_START_S:
        return Kind.SERVERLESS, f"an instance would be busy {100 * share:.2g} % of the time"
    if share < BUSY_SHARE and wait_s >= 60 * COLD_START_S:
        return Kind.ASYNC, "it can wait, and an endpoint without instances costs nothing"
    return Kind.REAL_TIME, f"an answer is wanted within {wait_s:g} s, at any time"

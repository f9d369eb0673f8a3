"""When a message to an HTTP listener is sent again: SNS's delivery policies as numbers.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html. A listener is tried at
once, and after each failure waits the next of the pauses of four phases: none, at the least, rising
between the two, at the most.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_TRIES = 100
MAX_DELAY_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when to try again; SNS's defaults for HTTP."""

    min_delay_s: float = 20.0
    max_delay_s: float = 20.0
    retries: int = 3
    retries_without_delay: int = 0
    retries_at_min_delay: int = 0
    retries_at_max_delay: int = 0
    backoff: str = "linear"

    def pauses_s(self) -> tuple[float, ...]:
        """Return how long to wait before each further try, in seconds."""
        before = [0.0] * self.retries_without_delay
        before += [self.min_delay_s] * self.retries_at_min_delay
        after = [self.max_delay_s] * self.retries_at_max_delay
        rising = max(self.retries - len(before) - len(after), 0)
        between = [self._rising(index, rising) for index in range(rising)]
        return tuple([*before, *between, *after][: min(self.retries, MAX_TRIES)])

    def _rising(self, index: int, count: int) -> float:
        """Return a pause of the third phase, from the least (first) to the most (last)."""
        share = index / (count - 1) if count > 1 else 0.0
        least, most = self.min_delay_s, self.max_delay_s
        if self.backoff == "exponential" and least > 0:
            return float(least * (most / least) ** share)
        if self.backoff == "geometric":
            share = share**2
        elif self.backoff == "arithmetic":
            share = share * (1 + share) / 2
        return least + (most - least) * share


def retry_policy(topic_policy: str, subscription_policy: str) -> RetryPolicy:
    """Return the policy that holds for a subscription: its own, its topic's, or the default.

    Args:
        topic_policy: Attribute ``DeliveryPolicy`` of the topic; empty for none.
        subscription_policy: The same of the subscription.
    """
    own = _read(subscription_policy).get("healthyRetryPolicy")
    of_topic = _read(topic_policy).get("http")
    if isinstance(of_topic, Mapping):
        overridden = of_topic.get("disableSubscriptionOverrides")
        found = of_topic.get("defaultHealthyRetryPolicy")
        if isinstance(found, Mapping) and (overridden or not isinstance(own, Mapping)):
            own = found
    if not isinstance(own, Mapping):
        return RetryPolicy()
    default = RetryPolicy()
    least = _number(own, "minDelayTarget", default.min_delay_s)
    return RetryPolicy(
        min_delay_s=least,
        max_delay_s=max(_number(own, "maxDelayTarget", default.max_delay_s), least),
        retries=min(int(_number(own, "numRetries", default.retries)), MAX_TRIES),
        retries_without_delay=int(_number(own, "numNoDelayRetries", 0)),
        retries_at_min_delay=int(_number(own, "numMinDelayRetries", 0)),
        retries_at_max_delay=int(_number(own, "numMaxDelayRetries", 0)),
        backoff=str(own.get("backoffFunction", default.backoff)),
    )


def may_be_repeated(status: int) -> bool:
    """Whether a listener that answered so may take the message later. 0: no answer at all."""
    return status == 0 or status == 429 or status >= 500


def _read(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _number(policy: Mapping[str, Any], name: str, default: float) -> float:
    value = policy.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        return default
    return min(float(value), MAX_DELAY_S)

"""Delivery policies of SNS as pauses, and who is tried again."""

import json

import pytest

from clary.neighbours.delivery_rule import (
    MAX_DELAY_S,
    MAX_TRIES,
    RetryPolicy,
    may_be_repeated,
    retry_policy,
)


def own(**policy):
    return json.dumps({"healthyRetryPolicy": policy})


def of_topic(**policy):
    return json.dumps({"http": {"defaultHealthyRetryPolicy": policy}})


@pytest.mark.parametrize(
    ("topic", "subscription", "pauses_s"),
    [
        pytest.param("", "", (20, 20, 20), id="the default of HTTP"),
        pytest.param("", own(numRetries=0), (), id="none"),
        pytest.param(of_topic(numRetries=1), "", (20,), id="of the topic"),
        pytest.param(of_topic(numRetries=1), own(numRetries=2), (20, 20), id="own before topic's"),
        pytest.param(
            json.dumps(
                {
                    "http": {
                        "disableSubscriptionOverrides": True,
                        "defaultHealthyRetryPolicy": {"numRetries": 1},
                    }
                }
            ),
            own(numRetries=2),
            (20,),
            id="overrides disabled",
        ),
        pytest.param(
            "",
            own(
                minDelayTarget=1,
                maxDelayTarget=5,
                numRetries=8,
                numNoDelayRetries=1,
                numMinDelayRetries=2,
                numMaxDelayRetries=2,
            ),
            (0, 1, 1, 1, 3, 5, 5, 5),
            id="four phases",
        ),
        pytest.param(
            "",
            own(minDelayTarget=1, maxDelayTarget=8, numRetries=4, backoffFunction="exponential"),
            (1, 2, 4, 8),
            id="exponential",
        ),
        pytest.param("no json", '"text"', (20, 20, 20), id="nonsense is no policy"),
        pytest.param("", own(numRetries=-1, minDelayTarget="x"), (20, 20, 20), id="bad numbers"),
    ],
)
def test_pauses(topic, subscription, pauses_s):
    assert retry_policy(topic, subscription).pauses_s() == pytest.approx(pauses_s)


@pytest.mark.parametrize("backoff", ["linear", "arithmetic", "geometric", "exponential", "new"])
def test_pauses_rise_from_the_least_to_the_most(backoff):
    policy = RetryPolicy(min_delay_s=2, max_delay_s=60, retries=6, backoff=backoff)
    pauses_s = policy.pauses_s()
    assert list(pauses_s) == sorted(pauses_s)
    assert (pauses_s[0], pauses_s[-1]) == (2, pytest.approx(60))


def test_no_policy_is_without_bounds():
    policy = retry_policy("", own(numRetries=10**9, minDelayTarget=10**9, maxDelayTarget=0))
    assert len(policy.pauses_s()) == MAX_TRIES
    assert set(policy.pauses_s()) == {MAX_DELAY_S}


@pytest.mark.parametrize(
    ("status", "repeated"),
    [(0, True), (500, True), (503, True), (429, True), (400, False), (404, False), (301, False)],
)
def test_what_may_pass_is_tried_again(status, repeated):
    assert may_be_repeated(status) is repeated

"""What an endpoint's configuration says of asynchronous calls, and what a call asks."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.resources.async_inference import (
    AsyncConfig,
    AsyncOrder,
    async_config,
    make_order,
    split_location,
)

CONFIG = AsyncConfig(
    output_path="s3://out/here",
    failure_path="s3://out/failed",
    success_topic="arn:good",
    error_topic=None,
    includes_answer=True,
    includes_error=False,
    max_concurrent=4,
)
INPUT = {"EndpointName": "e", "InputLocation": "s3://in/a"}


def test_a_configuration_is_read() -> None:
    definition = {
        "AsyncInferenceConfig": {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            "OutputConfig": {
                "S3OutputPath": "s3://out/here/",
                "S3FailurePath": "s3://out/failed",
                "NotificationConfig": {
                    "SuccessTopic": "arn:good",
                    "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
                },
            },
        }
    }
    assert async_config(definition) == CONFIG
    assert async_config({}) is None


def test_a_topic_for_both_is_one() -> None:
    assert replace(CONFIG, error_topic="arn:good").topics == ("arn:good",)
    assert replace(CONFIG, success_topic=None).topics == ()


@pytest.mark.parametrize(
    ("members", "output"),
    [
        ({}, "s3://out/here/u-1.out"),
        ({"S3OutputPathExtension": "a/b"}, "s3://out/here/a/b/u-1.out"),
        ({"S3OutputPathExtension": "/a/"}, "s3://out/here/a/u-1.out"),
        ({"Filename": "x.json"}, "s3://out/here/x.json"),
        ({"S3OutputPathExtension": "a", "Filename": "x"}, "s3://out/here/a/x"),
    ],
)
def test_outputs_have_their_places(members: dict[str, Any], output: str) -> None:
    order = make_order(CONFIG, "u-1", {**INPUT, **members})
    assert order.output_location == output
    assert order.failure_location == "s3://out/failed/u-1-error.out"
    assert order.is_named == ("Filename" in members)


def test_without_paths_there_are_no_places() -> None:
    order = make_order(replace(CONFIG, output_path=None, failure_path=None), "u", INPUT)
    assert (order.output_location, order.failure_location) == (None, None)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"InputLocation": "s3://in/a", "Body": b"1"}, "cannot be given together"),
        ({}, "must be given"),
        ({"Body": b"x" * 128_001}, "at most 128000"),
        ({"InputLocation": "s3://in"}, "names no object"),
        ({"InputLocation": "s3:///key"}, "names no object"),
        ({"InputLocation": "https://example.com/in/a"}, "names no object"),
    ],
)
def test_calls_without_one_good_input_are_refused(members: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        make_order(CONFIG, "u", members)


def test_the_longest_body_is_taken() -> None:
    assert make_order(CONFIG, "u", {"Body": b"x" * 128_000}).input_location is None


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("s3://in/a/b", ("in", "a/b")),
        ("s3://in/a?b#c%20", ("in", "a?b#c%20")),
        ("https://in.s3.us-east-1.amazonaws.com/a/b%20c", ("in", "a/b c")),
        ("https://in.s3.amazonaws.com/a", ("in", "a")),
        ("https://s3.eu-west-1.amazonaws.com/in/a", ("in", "a")),
        ("https://s3-us-west-2.amazonaws.com/in/a", ("in", "a")),
        ("https://my.bucket.s3.us-east-1.amazonaws.com/k", ("my.bucket", "k")),
    ],
)
def test_locations_are_split(location: str, place: tuple[str, str]) -> None:
    assert split_location(location) == place


@given(st.text(min_size=1))
def test_any_key_comes_back_whole(key: str) -> None:
    assert split_location(f"s3://bucket/{key}") == ("bucket", key)


@given(st.text(max_size=60))
def test_what_is_no_location_is_refused_and_nothing_else(text: str) -> None:
    try:
        bucket, key = split_location(text)
    except InvalidRequest:
        return
    assert bucket
    assert key


def test_an_order_survives_json() -> None:
    order = make_order(CONFIG, "u", {**INPUT, "ContentType": "a", "InvocationTimeoutSeconds": 5})
    assert AsyncOrder.from_json(order.to_json()) == order
    assert (order.timeout_s, order.content_type, order.accept) == (5, "a", None)

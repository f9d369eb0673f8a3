"""What a DataCaptureConfig asks for."""

from typing import Any

import pytest

from builders import an_endpoint_config
from clary.errors import InvalidRequest
from clary.resources.data_capture import DataCapture, active_capture, check_capture
from clary.resources.routing_table import EndpointRoute


def a_config(**members: Any) -> dict[str, Any]:
    return {
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://bucket/some/prefix/",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        **members,
    }


def active(**members: Any) -> DataCapture:
    capture = active_capture(a_config(**members))
    assert capture is not None
    return capture


def test_capture_is_on_unless_it_is_said_otherwise() -> None:
    capture = active()
    assert (capture.share, capture.destination) == (0.2, "s3://bucket/some/prefix")
    assert active_capture(None) is None
    assert active_capture(a_config(EnableCapture=False)) is None
    assert active_capture(a_config(InitialSamplingPercentage=0)) is None


@pytest.mark.parametrize(
    ("modes", "sides"),
    [
        (["Input"], (True, False)),
        (["Output"], (False, True)),
        (["InputAndOutput"], (True, True)),
        (["Input", "Output"], (True, True)),
        (["Output", "Output"], (False, True)),
    ],
)
def test_options_say_which_sides_are_taken(modes: list[str], sides: tuple[bool, bool]) -> None:
    capture = active(CaptureOptions=[{"CaptureMode": mode} for mode in modes])
    assert (capture.takes_input, capture.takes_output) == sides


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/csv", "CSV"),
        ("TEXT/CSV; header=present", "CSV"),
        ("application/json", "JSON"),
        ("application/json;charset=utf-8", "JSON"),
        ("application/x-mine", "CSV"),
        ("application/jsonlines", "JSON"),
        ("text/plain", "BASE64"),
        ("", "BASE64"),
    ],
)
def test_what_is_text_is_told_by_the_content_type(content_type: str, encoding: str) -> None:
    further = {
        "CsvContentTypes": ["application/X-Mine"],
        "JsonContentTypes": ["application/jsonlines"],
    }
    assert active(CaptureContentTypeHeader=further).encoding(content_type) == encoding


def test_a_route_carries_it() -> None:
    route = EndpointRoute(name="e", variants=(), capture=active())
    assert EndpointRoute.from_json(route.to_json()) == route
    before_capture = {"name": "e", "variants": []}
    assert EndpointRoute.from_json(before_capture).capture is None


def test_a_configuration_knows_its_capture() -> None:
    assert an_endpoint_config(definition={"DataCaptureConfig": a_config()}).capture == active()
    assert an_endpoint_config().capture is None


@pytest.mark.parametrize("destination", ["https://bucket/x", "s3://", "s3:///x", "bucket"])
def test_a_destination_outside_of_s3_is_refused(destination: str) -> None:
    with pytest.raises(InvalidRequest, match="is no place in S3"):
        check_capture(a_config(DestinationS3Uri=destination))


def test_a_destination_in_s3_is_taken() -> None:
    check_capture(None)
    check_capture(a_config(DestinationS3Uri="s3://bucket"))

"""Captured calls as lines of JSON."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.jobs.capture_lines import Place, file_name, line_of, place_of
from clary.router.capture_records import CaptureContext, CaptureRecord, Observed

NOON = 1767355445.6789  # 2026-01-02T12:04:05.678Z


def a_record(request: bytes = b"", answer: bytes = b"", **context: Any) -> CaptureRecord:
    common = {
        "destination": "s3://bucket/some/prefix",
        "endpoint": "digits",
        "variant": "AllTraffic",
        "input": None,
        "output": None,
        **context,
    }
    return CaptureRecord(CaptureContext(**common), "id-1", NOON, request, answer)


def side(encoding: str) -> Observed:
    return Observed("some/type", encoding)


@pytest.mark.parametrize(
    ("destination", "bucket", "beginning"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/a", "bucket", "a/"),
        ("s3://bucket/a/b c", "bucket", "a/b c/"),
    ],
)
def test_objects_lie_by_endpoint_variant_and_hour(
    destination: str, bucket: str, beginning: str
) -> None:
    place = place_of(a_record(destination=destination))
    assert place == Place(bucket, f"{beginning}digits/AllTraffic/2026/01/02/12", "digits")


def test_files_are_named_by_the_minute_of_their_first_call() -> None:
    assert file_name(NOON, "unique") == "04-05-678-unique.jsonl"


def test_a_line_has_the_members_of_the_contract_in_its_order() -> None:
    record = a_record(
        "ä,1".encode(),
        b"\x00",
        input=side("CSV"),
        output=side("BASE64"),
        custom_attributes="trace=7",
        inference_id="mine",
        is_shadow=True,
    )
    line = line_of(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "some/type",
                "mode": "INPUT",
                "data": "ä,1",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "some/type",
                "mode": "OUTPUT",
                "data": "AA==",
                "encoding": "BASE64",
            },
        },
        "eventMetadata": {
            "customAttributes": ["trace=7"],
            "eventId": "id-1",
            "inferenceId": "mine",
            "invocationSource": "ShadowExperiment",
            "inferenceTime": "2026-01-02T12:04:05Z",
        },
        "eventVersion": "0",
    }
    assert list(found) == ["captureData", "eventMetadata", "eventVersion"]


def test_what_is_not_there_is_left_out() -> None:
    found = json.loads(line_of(a_record(output=side("JSON"))))
    assert list(found["captureData"]) == ["endpointOutput"]
    assert sorted(found["eventMetadata"]) == ["eventId", "inferenceTime"]


@settings(deadline=None)
@given(st.binary(), st.sampled_from(["CSV", "JSON", "BASE64"]))
def test_every_body_can_be_read_back(body: bytes, encoding: str) -> None:
    line = line_of(a_record(body, input=side(encoding)))
    assert line.count(b"\n") == 1
    found = json.loads(line)["captureData"]["endpointInput"]
    is_binary = found["encoding"] == "BASE64"
    read = base64.b64decode(found["data"]) if is_binary else found["data"].encode()
    assert read == body

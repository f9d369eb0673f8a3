"""InvokeEndpointWithResponseStream as stock boto3 sees it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from clary.messages import CANCEL, MORE, REPLY, STREAM, decode_meta, encode_frame, encode_meta
from clary.settings import run_dir
from frame_peer import FramePeer, a_session
from gateways import Gateway, make_settings


class Call:
    """One endpoint whose worker is the test, and a boto3 client that calls it."""

    def __init__(self, gateway: Gateway, peer: FramePeer) -> None:
        self.gateway = gateway
        self.peer = peer
        self._pool = ThreadPoolExecutor(1)
        self._bodies: list[Any] = []
        make: Any = boto3.client
        self.client = make(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{gateway.port}",
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def begin(self, **more: Any) -> Any:
        """Call in the background; return the request at the worker."""
        self._call = self._pool.submit(
            self.client.invoke_endpoint_with_response_stream,
            **{"EndpointName": "peer", "Body": b"prompt", "ContentType": "text/plain", **more},
        )
        return self.peer.read()

    def response(self) -> Any:
        response = self._call.result(10)
        self._bodies.append(response["Body"])
        return response

    def close(self) -> None:
        for body in self._bodies:
            body.close()
        self.client.close()
        self._pool.shutdown()


@pytest.fixture
def call(tmp_path) -> Iterator[Call]:
    directory = run_dir(tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(make_settings(router={"stream_idle_timeout_s": 0.5}))
    with FramePeer(directory / "peer.sock") as peer:
        gateway.route("peer", peer.address)
        peer.accept()
        call = Call(gateway, peer)
        yield call
        call.close()
    gateway.close()


def text_of(event: Any) -> bytes:
    assert set(event) == {"PayloadPart"}
    return bytes(event["PayloadPart"]["Bytes"])


def test_members_of_request_and_response(call):
    request = call.begin(
        Accept="text/event-stream",
        CustomAttributes="trace=1",
        InferenceId="i",
        SessionId=a_session("s-1"),
    )
    assert request.body == b"prompt"
    assert decode_meta(request.meta) == {
        "content-type": "text/plain",
        "accept": "text/event-stream",
        "x-amzn-sagemaker-custom-attributes": "trace=1",
        "x-amzn-sagemaker-inference-id": "i",
        "x-amzn-sagemaker-session-id": "s-1",
    }
    meta = {"content-type": "text/event-stream", "x-amzn-sagemaker-custom-attributes": "took=1"}
    call.peer.send(
        encode_frame(
            REPLY, request.request_id, flags=MORE | STREAM, status=200, meta=encode_meta(meta)
        )
    )
    call.peer.part(request, b"data: 1\n\n")
    response = call.response()
    assert response["ContentType"] == "text/event-stream"
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["CustomAttributes"] == "took=1"
    assert [text_of(event) for event in response["Body"]] == [b"data: 1\n\n"]


def test_without_accept_the_container_gets_none(call):
    request = call.begin()
    assert "accept" not in decode_meta(request.meta)
    call.peer.reply(request, b"x")
    assert [text_of(event) for event in call.response()["Body"]] == [b"x"]


def test_events_are_iterated_as_they_are_made(call):
    request = call.begin()
    call.peer.reply(request, b"0", flags=MORE | STREAM)
    events = iter(call.response()["Body"])
    for number in range(1, 20):
        assert text_of(next(events)) == b"%d" % (number - 1)
        call.peer.part(request, b"%d" % number, flags=MORE)
    call.peer.part(request)
    assert [text_of(event) for event in events] == [b"19"]


def test_a_broken_stream_raises_model_stream_error(call):
    request = call.begin()
    call.peer.reply(request, b"a", flags=MORE | STREAM)
    call.peer.part(request, b"ValueError: boom", status=500)
    events = iter(call.response()["Body"])
    assert text_of(next(events)) == b"a"
    with pytest.raises(EventStreamError) as caught:
        next(events)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert caught.value.response["Error"]["Message"] == "ValueError: boom"
    assert caught.value.operation_name == "InvokeEndpointWithResponseStream"


def test_a_stream_over_its_limit_raises_model_stream_error(call):
    request = call.begin()
    call.peer.reply(request, b"a", flags=MORE | STREAM)
    events = iter(call.response()["Body"])
    next(events)
    with pytest.raises(EventStreamError, match=r"\(ModelStreamError\).*time limit"):
        next(events)


def test_a_fault_of_the_platform_raises_internal_stream_failure(call):
    request = call.begin()
    call.peer.reply(request, b"a", flags=MORE | STREAM)
    events = iter(call.response()["Body"])
    next(events)
    call.peer.send(b"\xff" * 20)
    with pytest.raises(EventStreamError, match="InternalStreamFailure"):
        next(events)


def test_an_error_before_the_first_part_is_a_model_error(call):
    request = call.begin()
    call.peer.reply(request, b"no", status=418)
    with pytest.raises(call.client.exceptions.ModelError) as caught:
        call.response()
    assert caught.value.response["OriginalStatusCode"] == 418
    assert caught.value.response["OriginalMessage"] == "no"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_an_unknown_endpoint_is_a_validation_error(call):
    with pytest.raises(ClientError, match="Endpoint nope of account 123456789012 not found"):
        call.client.invoke_endpoint_with_response_stream(EndpointName="nope", Body=b"")


def test_a_closed_event_stream_cancels_the_call(call):
    request = call.begin()
    call.peer.reply(request, b"a", flags=MORE | STREAM)
    body = call.response()["Body"]
    next(iter(body))
    body.close()
    frame = call.peer.read()
    assert (frame.kind, frame.request_id) == (CANCEL, request.request_id)

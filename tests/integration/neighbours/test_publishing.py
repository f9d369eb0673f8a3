"""Publishing from inside: over the socket, again while the process is away, never what is wrong."""

import asyncio

import pytest

from clary.errors import PermanentError, TransientError
from clary.neighbours.publishing import SocketPublisher

TOPIC = "arn:aws:sns:eu-west-1:123456789012:t"
TAKEN = b"<PublishResult><MessageId>m-1</MessageId></PublishResult>"
REFUSED = b"<Error><Code>NotFound</Code><Message>Topic does not exist</Message></Error>"


def answer(status, body):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


async def publish(path, *answers, **named):
    """Publish to a socket that gives these answers in turn; return the outcome and requests."""
    requests = []
    waiting = list(answers)

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        requests.append((head.decode(), (await reader.readexactly(length)).decode()))
        writer.write(waiting.pop(0))
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    publisher = SocketPublisher(path, authority="127.0.0.1:25279", pauses_s=(0, 0))
    try:
        outcome = await publisher.publish(TOPIC, "S", "text & more", **named)
    except (PermanentError, TransientError) as error:
        outcome = error
    finally:
        server.close()
        await server.wait_closed()
    return outcome, requests


def test_a_message_goes_as_a_client_sends_it(tmp_path):
    outcome, requests = asyncio.run(
        publish(tmp_path / "s", answer(200, TAKEN), attributes={"kind": "alarm"})
    )
    assert outcome is None
    ((head, body),) = requests
    assert "x-clary-service: sns" in head
    assert "/eu-west-1/sns/aws4_request" in head
    assert "Message=text+%26+more&Subject=S&MessageAttributes.entry.1.Name=kind" in body


def test_what_may_pass_is_tried_again(tmp_path):
    outcome, requests = asyncio.run(
        publish(tmp_path / "s", answer(503, b""), b"", answer(200, TAKEN))
    )
    assert (outcome, len(requests)) == (None, 3)
    outcome, requests = asyncio.run(publish(tmp_path / "t", *[answer(500, b"")] * 3))
    assert isinstance(outcome, TransientError)
    assert len(requests) == 3


@pytest.mark.parametrize("status", [400, 404, 501])
def test_what_is_wrong_is_not(tmp_path, status):
    outcome, requests = asyncio.run(publish(tmp_path / "s", answer(status, REFUSED)))
    assert isinstance(outcome, PermanentError)
    assert str(outcome) == "NotFound: Topic does not exist"
    assert len(requests) == 1


def test_a_socket_that_is_not_there_is_waited_for(tmp_path):
    publisher = SocketPublisher(tmp_path / "none", authority="a", pauses_s=(0,))
    with pytest.raises(TransientError, match="cannot be published to"):
        asyncio.run(publisher.publish(TOPIC, "s", "m"))


@pytest.mark.parametrize("arn", ["", "arn:aws:sqs:eu-west-1:123456789012:q", f"{TOPIC}\r\nx: y"])
def test_what_is_no_topic_is_not_even_asked(tmp_path, arn):
    publisher = SocketPublisher(tmp_path / "none", authority="a", pauses_s=(0,))
    with pytest.raises(PermanentError, match="no ARN of a topic"):
        asyncio.run(publisher.publish(arn, "s", "m"))

"""Publishes to topics from inside the server: alarm actions, notifications, events.

Other processes reach SNS as clients do, over the socket that the gateway forwards to, so that it
makes no difference to them whether the topic is here or at another endpoint.
"""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from clary.errors import PermanentError, TransientError

TIMEOUT_S = 70.0
"""Longest wait for an answer: the process may have to start, and pass it on."""

PAUSES_S = (0.2, 1.0, 3.0)
"""Before further tries."""

_TOPIC_ARN = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):[0-9]{12}:[\w-]+(?:\.fifo)?")
_CODE = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


class SocketPublisher:
    """Publishes over the neighbours' socket.

    Args:
        socket_path: ``R/neighbours.sock``.
        authority: Host and port of this server, which links in messages name.
        pauses_s: Before each further try, in seconds.
    """

    def __init__(
        self, socket_path: Path, *, authority: str, pauses_s: tuple[float, ...] = PAUSES_S
    ) -> None:
        self._socket_path = str(socket_path)
        self._authority = authority
        self._pauses_s = pauses_s

    async def publish(
        self,
        topic_arn: str,
        subject: str,
        message: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a message; return once the topic has taken it.

        Raises:
            PermanentError: The topic does not take it: there is none, or the message is too long.
            TransientError: SNS was away for all tries.
        """
        found = _TOPIC_ARN.fullmatch(topic_arn)
        if found is None:
            raise PermanentError(f"{topic_arn!r} is no ARN of a topic.")
        region = found[1]
        body = _form(topic_arn, subject, message, attributes or {})
        for pause_s in (*self._pauses_s, None):
            try:
                await asyncio.wait_for(self._try(body, region), TIMEOUT_S)
                return
            except (TransientError, TimeoutError, OSError, EOFError) as error:
                if pause_s is None:
                    raise TransientError(f"{topic_arn} cannot be published to: {error}") from error
            await asyncio.sleep(pause_s)

    async def _try(self, body: bytes, region: str) -> None:
        reader, writer = await asyncio.open_unix_connection(self._socket_path)
        try:
            scope = f"Credential=clary/20260101/{region}/sns/aws4_request"
            head = (
                "POST / HTTP/1.1\r\n"
                f"host: {self._authority}\r\nx-clary-service: sns\r\n"
                f"authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0\r\n"
                "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
        head_bytes, _, text_bytes = answer.partition(b"\r\n\r\n")
        if not head_bytes.startswith(b"HTTP/1.1 "):
            raise EOFError("the neighbours process went away")
        status = int(head_bytes[9:12])
        text = text_bytes.decode("utf-8", "replace")
        if status == 200:
            return
        code, reason = _CODE.search(text), _MESSAGE.search(text)
        complaint = f"{code[1] if code else status}: {reason[1] if reason else text[:200]}"
        if 400 <= status < 500 or status == 501:
            raise PermanentError(complaint)
        raise TransientError(complaint)


def _form(topic_arn: str, subject: str, message: str, attributes: Mapping[str, str]) -> bytes:
    fields = {
        "Action": "Publish",
        "Version": "2010-03-31",
        "TopicArn": topic_arn,
        "Message": message,
        **({"Subject": subject} if subject else {}),
    }
    for position, (name, value) in enumerate(attributes.items(), start=1):
        entry = f"MessageAttributes.entry.{position}"
        fields[f"{entry}.Name"] = name
        fields[f"{entry}.Value.DataType"] = "String"
        fields[f"{entry}.Value.StringValue"] = value
    return urlencode(fields).encode()

"""The least HTTP server that runs the model's functions: what nginx stands in front of.

httptools on a uvloop protocol, keep-alive, bodies collected, nothing checked. One process.

    python bare.py unix:/path | tcp:PORT
"""

import asyncio
import os
import sys
from typing import cast

import httptools
import inference
import uvloop

model = inference.model_fn(os.environ["MODEL_DIR"])


class Connection(asyncio.Protocol):
    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parts: list[bytes] = []
        self.content_type = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.parts = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.decode()

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        data = inference.input_fn(b"".join(self.parts), self.content_type)
        body, content_type = inference.output_fn(inference.predict_fn(data, model), "*/*")
        if isinstance(body, str):
            body = body.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
        self.transport.writelines((head.encode() + b"\r\n\r\n", body))


async def main(address: str) -> None:
    scheme, _, rest = address.partition(":")
    loop = asyncio.get_running_loop()
    if scheme == "unix":
        server = await loop.create_unix_server(Connection, rest, backlog=1024)
    else:
        server = await loop.create_server(Connection, "127.0.0.1", int(rest), backlog=1024)
    await server.serve_forever()


uvloop.run(main(sys.argv[1]))

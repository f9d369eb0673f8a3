"""A door before an S3: what passes it, and how, is the test's to say while all runs."""

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Rule = Callable[[str, str], str]
"""Given method and path, say what becomes of a request: ``pass``, ``deny`` (403), ``away`` (the
connection is closed), or ``cut`` (half of the answer's body, and then no more)."""

DENIED = b"<Error><Code>AccessDenied</Code><Message>Read only</Message></Error>"


def open_to_all(method: str, path: str) -> str:
    return "pass"


class S3Gate:
    """Forwards to an S3 as far as ``rule`` lets it."""

    def __init__(self, url: str) -> None:
        self.rule: Rule = open_to_all
        self.seen: Counter[str] = Counter()
        """How often each fate was had."""
        gate = self
        target = urlsplit(url)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                fate = gate.rule(self.command, self.path)
                gate.seen[fate] += 1
                if fate == "away":
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if fate == "deny":
                    self.answer(403, [], b"" if self.command == "HEAD" else DENIED)
                    return
                connection = http.client.HTTPConnection(target.netloc, timeout=30)
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "connection", "expect", "content-length")
                }
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                content = reply.read()
                connection.close()
                self.answer(reply.status, reply.getheaders(), content, is_cut=fate == "cut")

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on

            def answer(
                self,
                status: int,
                headers: list[tuple[str, str]],
                content: bytes,
                *,
                is_cut: bool = False,
            ) -> None:
                self.send_response(status)
                length = str(len(content))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value
                    elif name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                self.send_header("content-length", length)
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if is_cut else content)
                if is_cut:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""A steady load on one endpoint, from threads of the test, that remembers how each call went."""

import http.client
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call went."""

    started: float
    seconds: float
    status: int
    """HTTP status; 0 when the connection broke."""

    error: str = ""
    body: bytes = b""


class Load:
    """Calls an endpoint all the time while the block runs.

    Each thread keeps its connection and opens a new one when it breaks. The pause bounds the rate,
    so that a test's load leaves room for what it observes; with a rate, calls begin by the clock,
    however long the ones before them took.
    """

    def __init__(
        self,
        port: int,
        endpoint: str,
        *,
        threads: int = 4,
        pause_s: float = 0.002,
        rate: float | None = None,
    ):
        self.outcomes: list[Outcome] = []
        self._port = port
        self._path = f"/endpoints/{endpoint}/invocations"
        self._pause_s = pause_s
        self._interval_s = None if rate is None else threads / rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        due = time.monotonic()
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                connection.request("POST", self._path, b'{"x":1}', {"Content-Type": "a/json"})
                reply = connection.getresponse()
                body = reply.read()
                outcome = Outcome(
                    started,
                    time.monotonic() - started,
                    reply.status,
                    "" if reply.status == 200 else body.decode(errors="replace"),
                    body,
                )
            except (OSError, http.client.HTTPException) as error:
                outcome = Outcome(started, time.monotonic() - started, 0, repr(error))
                if connection is not None:
                    connection.close()
                connection = None
            self.outcomes.append(outcome)
            if self._interval_s is None:
                self._stop.wait(self._pause_s)
            else:
                due += self._interval_s
                self._stop.wait(max(due - time.monotonic(), 0))
        if connection is not None:
            connection.close()

    @property
    def failures(self) -> list[Outcome]:
        """Calls that did not end with 200."""
        return [outcome for outcome in self.outcomes if outcome.status != 200]

    def good_since(self, moment: float) -> int:
        """Count the good calls that began after a moment of the monotonic clock."""
        return sum(o.status == 200 and o.started > moment for o in list(self.outcomes))


def count_variants(
    port: int, endpoint: str, calls: int, *, connections: int = 4, target: str | None = None
) -> Counter[str]:
    """Call an endpoint many times, fast, and count which variant answered.

    Whole requests on raw keep-alive connections: http.client alone would take most of the time.
    A call that does not end with 200 counts under its status line.
    """
    headers = f"X-Amzn-SageMaker-Target-Variant: {target}\r\n" if target else ""
    request = (
        f"POST /endpoints/{endpoint}/invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\n{headers}Content-Length: 2\r\n\r\n{{}}"
    ).encode()

    def run(count: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            reader = connection.makefile("rb")
            for _ in range(count):
                connection.sendall(request)
                status = reader.readline().strip().decode()
                lines = dict(_header(line) for line in iter(reader.readline, b"\r\n"))
                reader.read(int(lines["content-length"]))
                is_good = status.endswith("200 OK")
                seen[lines["x-amzn-invoked-production-variant"] if is_good else status] += 1
            reader.close()
        return seen

    shares = [calls // connections + (n < calls % connections) for n in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(run, shares), Counter())


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode().strip().partition(": ")
    return name.lower(), value

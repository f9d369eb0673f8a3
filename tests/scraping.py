"""Reads ``GET /metrics`` as Prometheus does, with the parsers of its own client library."""

import http.client

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from server import Server

OPEN = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"


class Scrape:
    """What one request got."""

    def __init__(self, text: str, content_type: str) -> None:
        self.content_type = content_type
        parse = parse_open if content_type.startswith("application/openmetrics") else parse_text
        self.families = {family.name: family for family in parse(text)}
        self.samples = [s for family in self.families.values() for s in family.samples]

    @property
    def names(self) -> set[str]:
        """Names of all samples, ``_bucket`` and the like included."""
        return {sample.name for sample in self.samples}

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of this name that has these labels; None without one."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) < 2, f"{name} {labels}: {found}"
        return found[0] if found else None


def ask(server: Server, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    """Return status, content type and body of a GET without a signature."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        body = reply.read().decode()
        return reply.status, reply.headers.get("content-type", ""), body
    finally:
        connection.close()


def scrape(server: Server, **headers: str) -> Scrape:
    """Ask a server for its metrics."""
    status, content_type, body = ask(server, **headers)
    assert status == 200, body
    return Scrape(body, content_type)

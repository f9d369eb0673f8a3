"""Which bucket the name of a host means.

Clients write ``http://host/bucket/key`` (path style) or ``http://bucket.host/key`` (virtual-hosted
style). SigV2 signs the bucket and not the host, so whoever verifies must find the same bucket as
whoever serves: else a URL presigned for one bucket would open another.
"""

import re
from collections.abc import Iterable

_AWS = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?:dualstack\.)?(?!amazonaws)[a-z0-9-]+)?"
    r"\.amazonaws\.com(?:\.cn)?"
)


class HostNames:
    """The names under which this S3 is reached.

    Args:
        hosts: Names without port, beside loopback and Amazon's own; a leading ``*.`` is left out.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        own = {"localhost", *(host.lower().removeprefix("*.") for host in hosts)}
        # The longest first: "s3.localhost" is no bucket of "localhost".
        self._own = sorted({*own, *(f"s3.{name}" for name in own)}, key=len, reverse=True)

    def find_bucket(self, authority: str) -> str | None:
        """Return the bucket that a ``Host`` header names; None when it names only the server."""
        host = authority.lower()
        head, colon, port = host.rpartition(":")
        if colon and port.isdigit():
            host = head
        host = host.rstrip(".")
        for name in self._own:
            if host == name:
                return None
            if host.endswith(f".{name}"):
                return host[: -len(name) - 1]
        found = _AWS.fullmatch(host)
        return found["bucket"] if found else None

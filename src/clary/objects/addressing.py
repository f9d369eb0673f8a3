"""Which bucket a request means, by its path or by the name of its host.

Clients write ``http://host/bucket/key`` (path style) or ``http://bucket.host/key`` (virtual-hosted
style; boto3's default wherever the host is a name). Everything behind this module sees path style.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from clary.aws.fault import Fault

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


def to_path_style(raw_path: str, bucket: str | None) -> str:
    """Return the path of a request with its bucket in front, percent-encoded.

    Args:
        raw_path: As received.
        bucket: The one that the host names, if it does.

    Raises:
        Fault: ``InvalidURI``: the path is no UTF-8.
    """
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as error:
        raise Fault("InvalidURI", "Couldn't parse the specified URI.", 400) from error
    return raw_path if bucket is None else f"/{quote(bucket)}{raw_path}"

"""Who may come in.

With authentication on, every request carries a valid signature (``signing``). In the open mode any
credentials do, or none, but a page in the user's browser must still not reach the server, for
deploying a model is running code: requests with a foreign ``Origin`` (cross-site requests) or a
``Host`` that is not ours (DNS rebinding) are refused.
"""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from clary.errors import AccessDenied
from clary.gateway.requests import Request
from clary.settings import LOOPBACK_HOSTS
from clary.signing import sigv2, sigv4
from clary.signing.hosts import HostNames
from clary.signing.keys import AccessKey
from clary.signing.refusals import Refusal, refuse
from clary.signing.scope import ALGORITHM

MAX_REMEMBERED = 1024


class Guard:
    """Checks requests, in the mode that the settings choose."""

    def __init__(
        self, *, auth_is_on: bool, allowed_hosts: tuple[str, ...], scrape_token: str = ""
    ) -> None:
        self.auth_is_on = auth_is_on
        self._scrape_token = scrape_token.encode()
        self._allowed = (*LOOPBACK_HOSTS, "*.localhost", *allowed_hosts)
        self._host_names = HostNames(allowed_hosts)
        self._known_hosts: set[bytes] = set()
        self._keys: Mapping[str, AccessKey] = {}
        self.tick()

    def tick(self) -> None:
        """Take the time anew. Called each second: signatures may be minutes off."""
        self._now = datetime.now(UTC)
        self._now_s = self._now.timestamp()

    def use_keys(self, keys: Mapping[str, AccessKey]) -> None:
        """Replace the access keys."""
        self._keys = keys

    def check_open(self, request: Request) -> None:
        """Refuse what a foreign page in a browser could have sent.

        Raises:
            AccessDenied: The Host or the Origin is not one of ours.
        """
        headers = request.headers
        host = headers.get(b"host", b"")
        if host not in self._known_hosts:
            if not self._is_ours(host.decode("latin-1")):
                raise AccessDenied(
                    f"The request names the host {host.decode('latin-1')!r}, which is none of this "
                    "server's names. Add it to server.allowed_hosts, or turn authentication on."
                )
            if len(self._known_hosts) < MAX_REMEMBERED:
                self._known_hosts.add(host)
        origin = headers.get(b"origin")
        if origin is not None and not self._is_ours(urlsplit(origin.decode("latin-1")).netloc):
            raise AccessDenied(
                f"Requests from web pages of {origin.decode('latin-1')!r} are not taken. Add the "
                "host to server.allowed_hosts, or turn authentication on."
            )
        if origin is None and headers.get(b"sec-fetch-site") == b"cross-site":
            raise AccessDenied("Cross-site requests of a browser are not taken.")

    def _is_ours(self, authority: str) -> bool:
        name = authority.rpartition(":")[0] if _has_port(authority) else authority
        name = name.lower().rstrip(".")
        return any(
            name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in self._allowed
        )

    def check_scrape(self, request: Request) -> None:
        """Check who asks for the metrics without a signature.

        Raises:
            AccessDenied: It is not the bearer of the token.
        """
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        if (
            not self._scrape_token
            or scheme.lower() != b"bearer"
            or not hmac.compare_digest(token.strip(), self._scrape_token)
        ):
            raise AccessDenied(
                "Authentication is on: send the token of the setting metrics.scrape_token as "
                "'Authorization: Bearer <token>', or sign the request."
            )

    def claimed_key(self, request: Request) -> str:
        """Return the access key id that a request names, verified or not; empty for none."""
        scope = sigv4.scope_of(request.headers, request.query)
        return scope.access_key_id if scope is not None else ""

    def check_signature(
        self, request: Request, payload_hash: bytes | None, service: str
    ) -> AccessKey:
        """Verify the signature of a request.

        Args:
            request: As received.
            payload_hash: Hex SHA-256 of the body, or None to take what the request declares
                (streamed S3 uploads, whose bytes ``objects`` checks as they come).
            service: Whom the signature has to be for. One for S3 may leave the body unsigned, so
                it must open nothing else.

        Raises:
            AccessDenied: There is no signature, or it is not valid now.
        """
        headers = request.headers
        signed = sigv4.SignedRequest(
            request.method, request.path, request.query, headers, payload_hash
        )
        authorization = headers.get(b"authorization")
        if authorization is not None and authorization.startswith(ALGORITHM):
            return sigv4.verify_header(signed, authorization, self._keys, self._now_s, service)
        scope = sigv4.scope_of(headers, request.query)
        if scope is not None and scope.service != service:
            raise sigv4.wrong_service(service)
        if sigv2.is_signed(signed):
            host = headers.get(b"host", b"").decode("latin-1")
            bucket = (self._host_names.find_bucket(host) or "").encode("latin-1")
            return sigv2.verify(signed, self._keys, self._now, bucket_of_host=bucket)
        if scope is None and not sigv4.is_signed(signed):
            text = "Access Denied" if service == "s3" else "Missing Authentication Token"
            raise refuse(Refusal.NO_SIGNATURE, service, text)
        return sigv4.verify(signed, self._keys, self._now)


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdigit() and not authority.endswith("]")

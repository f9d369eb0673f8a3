"""Signatures that Clary itself makes, for its client commands.

The commands talk to the same public API as everyone else; this spares them botocore, whose import
alone takes longer than most of their requests.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from clary.signing import canonical, sigv4
from clary.signing.keys import AccessKey
from clary.signing.scope import format_moment


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    key: AccessKey,
    *,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers to send: those given, and what signs them.

    Args:
        method: HTTP method.
        url: Whole URL, its path and query percent-encoded.
        headers: Headers to send and to sign, of any case; sent back in lower case.
        body: Whole body.
        key: Key to sign with.
        region: Region of the credential scope.
        service: Signing name, such as ``sagemaker``.
        now: Moment of signing; aware.
    """
    parts = urlsplit(url)
    payload = hashlib.sha256(body).hexdigest()
    moment = format_moment(now)
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed.pop("authorization", None)
    signed.setdefault("host", parts.netloc.rpartition("@")[2])
    signed["x-amz-date"] = moment
    if service == "s3":
        signed["x-amz-content-sha256"] = payload
    names = sorted(signed)
    path = canonical.paths(parts.path.encode(), s3=service == "s3")[0]
    query = canonical.queries(parts.query.encode())[0]
    lines = "".join(f"{name}:{signed[name]}\n" for name in names)
    request = b"%s\n%s\n%s\n%s\n%s\n%s" % (
        method.encode(),
        path,
        query,
        lines.encode(),
        ";".join(names).encode(),
        payload.encode(),
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    signing_key = sigv4.derive_key(key.secret, moment[:8], region, service)
    signature = sigv4.signature(signing_key, moment.encode(), scope.encode(), request)
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.id}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature.decode()}"
    )
    return signed

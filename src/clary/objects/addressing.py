"""Everything behind this module sees requests in path style: the bucket leads the path.

``signing/hosts.py`` finds the bucket that the name of a host means.
"""

from urllib.parse import quote, unquote_to_bytes

from clary.aws.fault import Fault


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

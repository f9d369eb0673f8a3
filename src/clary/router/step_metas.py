"""Headers of the requests between the steps of a pipeline."""

from typing import TypeVar

from clary.messages import TRACED, decode_meta, encode_meta

Key = TypeVar("Key")

MAX_REMEMBERED = 4096


class StepMetas:
    """Makes the headers of each step's request, remembering the ones that recur."""

    def __init__(self) -> None:
        self._firsts: dict[bytes, bytes] = {}
        self._nexts: dict[tuple[bytes, bytes, bool], bytes] = {}

    def first(self, client_meta: bytes) -> bytes:
        """Return the meta block of a first step that is not the last one: without ``Accept``.

        The client's wish is about the last answer; what steps say among themselves is theirs.
        """
        meta = self._firsts.get(client_meta)
        if meta is None:
            headers = decode_meta(client_meta)
            headers.pop("accept", None)
            meta = encode_meta(headers)
            if TRACED not in meta:
                _remember(self._firsts, client_meta, meta)
        return meta

    def next(self, client_meta: bytes, reply_meta: bytes, *, is_last: bool) -> bytes:
        """Return the meta block for what one step answered, as the next one's request.

        Args:
            client_meta: Of the client's request.
            reply_meta: Of the step's answer. Its Content-Type replaces the client's; without one
                the request has none either, for nobody knows what the body is.
            is_last: Whether the next step is the last, which is asked for what the client accepts.
        """
        key = (client_meta, reply_meta, is_last)
        meta = self._nexts.get(key)
        if meta is None:
            headers = decode_meta(client_meta)
            headers.pop("content-type", None)
            if not is_last:
                headers.pop("accept", None)
            content_type = decode_meta(reply_meta).get("content-type")
            if content_type is not None:
                headers["content-type"] = content_type
            meta = encode_meta(headers)
            if TRACED not in meta:
                _remember(self._nexts, key, meta)
        return meta


def _remember(cache: dict[Key, bytes], key: Key, value: bytes) -> None:
    if len(cache) >= MAX_REMEMBERED:
        cache.clear()
    cache[key] = value

"""A reply too large for one frame, sent in parts as fast as the router takes it.

At most ``REPLY_WINDOW`` bytes travel ahead of the credit that the router gave, so that a slow
client fills neither the router's memory nor this worker's socket.
"""

from typing import List, Optional, Tuple, Union

from clary.messages import (
    HEAD,
    MAX_PIECE,
    MORE,
    PART,
    REPLY,
    REPLY_WINDOW,
    decode_meta,
    encode_meta,
)


class LargeReply:
    """Cuts one body into frames, within the window."""

    __slots__ = ("_body", "_is_begun", "_meta", "_position", "_status", "_took_us", "_window",
                 "request_id")  # fmt: skip

    def __init__(self, request_id: int, took_us: int, reply: Tuple[int, bytes, bytes]) -> None:
        self.request_id = request_id
        self._status, meta, body = reply
        # The router sees the first part only: with the length it can announce the whole.
        self._meta = encode_meta({**decode_meta(meta), "content-length": str(len(body))})
        self._body = memoryview(body)
        self._took_us = took_us
        self._position = 0
        self._window = REPLY_WINDOW
        self._is_begun = False

    @property
    def is_sent(self) -> bool:
        """Whether the last part has been handed out."""
        return self._is_begun and self._position >= len(self._body)

    def credit(self, count: int) -> None:
        """Allow ``count`` more bytes."""
        self._window += count

    def next_frame(self) -> "Optional[List[Union[bytes, memoryview]]]":
        """Return the pieces of the next frame; None when all is sent or the window is used up.

        Before the first one comes the frame of the reply, without a body.
        """
        if self.is_sent or self._window <= 0:
            return None
        size = min(MAX_PIECE, self._window)
        part = self._body[self._position : self._position + size]
        self._position += len(part)
        self._window -= len(part)
        flags = 0 if self._position >= len(self._body) else MORE
        piece: List[Union[bytes, memoryview]] = [
            HEAD.pack(PART, flags, 200, self.request_id, 0, 0, len(part)),
            part,
        ]
        if self._is_begun:
            return piece
        self._is_begun = True
        return [
            HEAD.pack(REPLY, MORE, self._status, self.request_id, self._took_us, len(self._meta), 0)
            + self._meta,
            *piece,
        ]

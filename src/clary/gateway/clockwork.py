"""What responses carry that is never the same twice: the date, and ids of requests."""

import os
import time
from email.utils import formatdate


class Clockwork:
    """What changes with time and with every response: date line and request ids."""

    __slots__ = ("_count", "_prefix", "date_line")

    def __init__(self) -> None:
        # Ids look like UUIDs and are unique over processes by their random prefix.
        digits = os.urandom(10).hex()
        prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-"
        self._prefix = prefix.encode()
        self._count = 0
        self.date_line = b""
        """``date: …``, with its line end; to the second."""
        self.tick()

    def tick(self) -> None:
        """Take the time anew."""
        self.date_line = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()

    def next_request_id(self) -> bytes:
        """Return an id that no other request has."""
        self._count += 1
        return b"%b%012x" % (self._prefix, self._count)

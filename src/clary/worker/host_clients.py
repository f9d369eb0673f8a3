"""Who is connected to a host: gets its status at each change, and asks things of it."""

import os
import selectors
import socket
from typing import Any, Callable, Dict, Set

from clary.messages import LineDecoder, ProtocolError

MAX_UNSENT_BYTES = 1024 * 1024
"""A client that reads nothing is dropped when so much waits for it."""


class Client:
    """One connection to ``host.sock``."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.decoder = LineDecoder(limit=64 * 1024)
        self.unsent = b""


class Clients:
    """All connections to ``host.sock``.

    Args:
        selector: Of the host, which calls what is registered there.
        path: Where the socket is.
        obey: Takes each request with the client that it came from.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        path: str,
        obey: "Callable[[Client, Dict[str, Any]], None]",
    ) -> None:
        self.path = path
        self._selector = selector
        self._obey = obey
        self._clients: Set[Client] = set()
        self._published = b""

    def listen(self) -> None:
        """Open the socket."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(self.path)
        os.chmod(self.path, 0o600)
        self._listener.listen(16)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_client)

    def publish(self, line: bytes) -> None:
        """Send the status to all, if it is another one than the last time."""
        if line != self._published:
            self._published = line
            for client in list(self._clients):
                self.send(client, line)

    def send(self, client: Client, data: bytes) -> None:
        """Send something to one; what it does not take now waits."""
        client.unsent += data
        try:
            sent = client.socket.send(client.unsent) if client.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.unsent = client.unsent[sent:]
        if len(client.unsent) > MAX_UNSENT_BYTES:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        key = self._selector.get_key(client.socket)
        if key.events != events:
            self._selector.modify(client.socket, events, key.data)

    def _on_client(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # gone again
        connection.setblocking(False)
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(
            connection, selectors.EVENT_READ, lambda: self._on_client_event(client)
        )
        self.send(client, self._published)

    def _on_client_event(self, client: Client) -> None:
        if client not in self._clients:
            return
        if client.unsent:
            self.send(client, b"")
            if client not in self._clients:
                return
        try:
            data = client.socket.recv(65536)
            messages = client.decoder.feed(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            messages = None
        if messages is None:
            self._drop(client)
            return
        for message in messages:
            self._obey(client, message)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()

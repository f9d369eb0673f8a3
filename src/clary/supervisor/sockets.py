"""The sockets that the supervisor owns, so that they outlive whoever serves them."""

import contextlib
import errno
import os
import socket

BACKLOG = 4096


class Refusal(Exception):
    """The server cannot start; the message is for the person at the terminal."""


def open_port(host: str, port: int) -> socket.socket:
    """Return a listening socket for clients.

    Raises:
        Refusal: The port is not to be had.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"port {port} is taken by another program; stop it, or choose another port "
                "with --port"
            )
        raise Refusal(f"cannot listen on {host}:{port}: {reason}") from error
    listener.setblocking(False)
    return listener


def open_unix(path: str) -> socket.socket:
    """Return a listening Unix socket that only this user can connect to.

    The path is there only once it can be connected to.

    Raises:
        OSError: The path cannot be used.
    """
    new = f"{path}~"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(new)
        os.chmod(new, 0o600)
        listener.listen(BACKLOG)
        os.replace(new, path)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """Return where a listening socket is reached from this machine."""
    port = listener.getsockname()[1]
    if host in ("0.0.0.0", "::", "[::]"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host.strip("[]") else f"http://{host}:{port}"

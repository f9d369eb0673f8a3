"""Builds each process and wires it together: the only place that knows all packages."""

from clary.app.server import start_server

__all__ = ["start_server"]

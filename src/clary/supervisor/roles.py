"""Keeps the roles of the plan running.

Most are started at once. A role on demand has a socket of its own, on which the supervisor waits::

    waiting ── somebody connects ──▶ running ── dies ──▶ started again
                                     (serves the connections that wait in the socket)

While it runs, the supervisor does not look at the socket. ``<run dir>/<role>.pid`` is there once it
has been started, for those who want to know without connecting.
"""

import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clary.supervisor.children import Child, Children, describe_exit
from clary.supervisor.plan import EXIT_CONFIGURATION, Plan, Role
from clary.supervisor.sockets import open_unix
from clary.supervisor.timers import Timers

RESTART_PAUSES_S = (0.0, 0.1, 0.3, 1.0, 2.0)
SETTLED_AFTER_S = 10.0


class Roles:
    """Starts roles, and starts them again when they die.

    Args:
        plan: Names them.
        port: The listening socket of the server.
        children: Gets their processes.
        timers: Waits before a start.
        selector: Waits for connections to roles on demand.
        give_up: Called when a role cannot run at all, with the reason.
    """

    def __init__(
        self,
        plan: Plan,
        port: socket.socket,
        children: Children,
        timers: Timers,
        selector: selectors.BaseSelector,
        give_up: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._run_dir = Path(plan.run_dir)
        self._port = port
        self._children = children
        self._timers = timers
        self._selector = selector
        self._give_up = give_up
        self._sockets: dict[str, socket.socket] = {}
        self._waiting: set[str] = set()
        """Roles on demand that nobody has needed yet."""
        self._quick_deaths: dict[str, int] = {}
        self._is_stopping = False

    def open_sockets(self) -> None:
        """Listen for the roles on demand.

        Raises:
            OSError: A path cannot be used.
        """
        for role in self._plan.roles:
            if role.is_on_demand:
                self._pid_file(role).unlink(missing_ok=True)
                self._sockets[role.name] = open_unix(role.socket)

    def start(self) -> None:
        """Start all roles, or wait until they are needed."""
        for role in self._plan.roles:
            if role.is_on_demand:
                self._wait_for_connection(role)
            else:
                self._start(role)

    def stop(self) -> None:
        """Start nothing any more."""
        self._is_stopping = True
        self._port.close()
        for name in list(self._waiting):
            self._stop_waiting(name)

    def clean_up(self) -> None:
        """Remove what tells that roles run."""
        for role in self._plan.roles:
            if role.is_on_demand:
                self._pid_file(role).unlink(missing_ok=True)

    def died(self, child: Child, role: Role) -> None:
        """Start a role again, after a pause when it dies often."""
        if self._is_stopping:
            return
        if child.returncode == EXIT_CONFIGURATION and not role.is_on_demand:
            error = self._run_dir / f"{role.name}.error"
            reason = error.read_text().strip() if error.exists() else f"{role.name} cannot start"
            self._give_up(reason)
            return
        quick = time.monotonic() - child.started_at < SETTLED_AFTER_S
        deaths = self._quick_deaths.get(role.name, 0) + 1 if quick else 0
        self._quick_deaths[role.name] = deaths
        pause = RESTART_PAUSES_S[min(deaths, len(RESTART_PAUSES_S)) - 1] if deaths else 0.0
        complain(f"{role.name} ended ({describe_exit(child.returncode)}); starting it again")
        self._timers.after(pause, lambda: self._start(role))

    def _wait_for_connection(self, role: Role) -> None:
        def wake() -> None:
            if role.name in self._waiting:  # else something before it in this turn has stopped all
                self._stop_waiting(role.name)
                self._start(role)

        self._waiting.add(role.name)
        self._selector.register(self._sockets[role.name], selectors.EVENT_READ, wake)

    def _stop_waiting(self, name: str) -> None:
        self._waiting.remove(name)
        self._selector.unregister(self._sockets[name])

    def _start(self, role: Role) -> None:
        if self._is_stopping:
            return
        environment = dict(os.environ)
        listener = self._port if role.gets_port else self._sockets.get(role.name)
        pass_fds = () if listener is None else (listener.fileno(),)
        if listener is not None:
            environment["CLARY_LISTEN_FD"] = str(listener.fileno())
        log = os.path.join(self._plan.log_dir, f"{role.name}.log")
        try:
            child = self._children.start(
                role.name, role.argv, environment, cwd=None, log=log, pass_fds=pass_fds, role=role
            )
        except OSError as error:  # no process, descriptor or inode to be had: that may pass
            complain(f"{role.name} cannot be started: {error}; trying again")
            self._timers.after(RESTART_PAUSES_S[-1], lambda: self._start(role))
            return
        if role.is_on_demand:
            with suppress(OSError):  # only what health says depends on it
                self._pid_file(role).write_text(str(child.process.pid))

    def _pid_file(self, role: Role) -> Path:
        return self._run_dir / f"{role.name}.pid"


def complain(message: str) -> None:
    """Tell the person at the terminal."""
    # Nobody reads any more, or the disk of the file is full: no reason to end the server.
    with suppress(OSError):
        print(f"clary: {message}", file=sys.stderr, flush=True)  # noqa: T201

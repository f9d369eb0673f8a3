"""The supervisor's life: lock, sockets, roles, signals, and the end of everything.

It takes the lock on the data directory, opens the listening socket, starts the roles of the plan
(``roles.py``) and starts them again when they die. Control asks it over ``supervisor.sock``
(``conversation.py``) to start instance hosts, which so survive control. It is the subreaper of
everything below it, and holds the write end of the lifeline pipe: when it goes, whatever way, all
others see the end of file and leave. It knows no settings, no endpoints and no AWS.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from clary.supervisor.children import Child, Children, become_subreaper
from clary.supervisor.conversation import Requests, serve
from clary.supervisor.plan import Plan, Role
from clary.supervisor.roles import Roles, complain
from clary.supervisor.sockets import Refusal, open_port, open_unix, url_of
from clary.supervisor.timers import Timers

DRAIN_S = 5.0
"""How long gateways are waited for before the others are stopped."""

LAST_WORDS_S = 10.0
"""How long roles on demand have to bring away what they hold, while objects and control serve."""

STOP_S = 35.0
STAGE_POLL_S = 0.02

Stage = tuple[Callable[[Role | None], bool], float]


class Supervisor:
    """Starts, watches and stops; one thread, one selector."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run_dir = Path(plan.run_dir)
        self._timers = Timers()
        self._selector = selectors.DefaultSelector()
        self._children = Children(plan.life)
        self._is_stopping = False
        self._exit_status = 0
        self._lock_fd = -1

    def run(self) -> int:
        """Run until told to stop; return the exit status.

        Raises:
            Refusal: The data directory or the port is not to be had.
        """
        plan = self._plan
        self._take_lock()
        port = open_port(plan.host, plan.port)
        url = url_of(port, plan.host)
        self._roles = Roles(plan, port, self._children, self._timers, self._selector, self._give_up)
        self._prepare_run_dir(url)
        become_subreaper()
        self._watch_signals()
        self._roles.start()
        if plan.banner:
            print(plan.banner.format(url=url), flush=True)  # noqa: T201
        while not (self._is_stopping and not self._children.alive()):
            pause = self._timers.run()
            for key, _ in self._selector.select(pause):
                key.data()
        self._children.clear()
        self._roles.clean_up()
        for name in ("supervisor.sock", "server.json"):
            (self._run_dir / name).unlink(missing_ok=True)
        return self._exit_status

    def _take_lock(self) -> None:
        path = Path(self._plan.data_dir) / "lock"
        try:
            self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock_fd, 0)
            os.write(self._lock_fd, str(os.getpid()).encode())
        except BlockingIOError:
            owner = path.read_text().strip() or "unknown"
            raise Refusal(
                f"the data directory {self._plan.data_dir} is in use by another Clary "
                f"(process {owner}); stop that one, or choose another with --data-dir"
            ) from None
        except OSError as error:
            raise Refusal(
                f"cannot write in the data directory {self._plan.data_dir}: {error.strerror}; "
                "mend its owner, mode or free space, or choose another with --data-dir"
            ) from error

    def _prepare_run_dir(self, url: str) -> None:
        try:
            self._roles.open_sockets()
            requests = Requests(self._children, lambda: self._is_stopping)
            serve(open_unix(str(self._run_dir / "supervisor.sock")), requests, self._selector)
            # Last, for who reads it may connect.
            facts = {"pid": os.getpid(), "url": url, "life": self._plan.life}
            partial = self._run_dir / "server.json.partial"
            partial.write_text(json.dumps(facts))
            partial.replace(self._run_dir / "server.json")
        except OSError as error:
            raise Refusal(f"cannot write in {self._run_dir}: {error.strerror}") from error

    def _watch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._wakeup = (reader, writer)

        def handle() -> None:
            for number in reader.recv(4096):
                if number == signal.SIGCHLD:
                    for child in self._children.reap():
                        if child.role is not None:
                            self._roles.died(child, child.role)
                elif not self._is_stopping:
                    self._stop()
                elif number == signal.SIGINT:  # a second Ctrl-C: the person means it
                    self._children.kill_all()

        self._selector.register(reader, selectors.EVENT_READ, handle)

    # Stopping -----------------------------------------------------------------------------

    def _give_up(self, reason: str) -> None:
        complain(reason)
        self._exit_status = 2
        self._stop()

    def _stop(self) -> None:
        """Stop everything, in the order in which one needs the other.

        Gateways first, so that no request meets a half-stopped server; then the roles on demand,
        which may have to bring something away; then the rest.
        """
        self._is_stopping = True
        self._roles.stop()
        self._stop_next(
            [
                (lambda role: role is not None and role.gets_port, DRAIN_S),
                (lambda role: role is not None and role.is_on_demand, LAST_WORDS_S),
            ]
        )

    def _stop_next(self, stages: list[Stage]) -> None:
        if not stages:
            self._terminate(self._children.alive())
            self._timers.after(STOP_S, self._children.kill_all)
            return
        (belongs, limit_s), *others = stages
        stopped = [child for child in self._children.alive() if belongs(child.role)]
        self._terminate(stopped)
        deadline = time.monotonic() + limit_s

        def wait() -> None:
            if any(child.is_alive for child in stopped) and time.monotonic() < deadline:
                self._timers.after(STAGE_POLL_S, wait)
            else:
                self._stop_next(others)

        wait()

    def _terminate(self, children: list[Child]) -> None:
        for child in children:
            self._children.signal(child.id, signal.SIGTERM, group=False)

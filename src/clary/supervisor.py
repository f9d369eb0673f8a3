"""Parent of all processes; standard library only, so that there is nothing to crash on.

``clary up`` writes a plan (``Plan.to_json``) and becomes this program. It takes the lock on the
data directory, opens the listening socket, starts the roles of the plan and starts them again when
they die. Control asks it over ``supervisor.sock`` (docs/architecture.md) to start instance hosts,
which so survive control. It is the subreaper of everything below it, and holds the write end of
the lifeline pipe: when it goes, whatever way, all others see the end of file and leave.
It knows no settings, no endpoints and no AWS.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from clary.messages import LineDecoder, ProtocolError, encode_line

EXIT_CONFIGURATION = 78
"""Exit status (EX_CONFIG) with which a role says: a restart will not help. What is wrong stands in
``<run dir>/<role>.error``; the supervisor prints it, stops everything and leaves with status 2."""

PR_SET_CHILD_SUBREAPER = 36
RESTART_PAUSES_S = (0.0, 0.1, 0.3, 1.0, 2.0)
SETTLED_AFTER_S = 10.0
DRAIN_S = 5.0
STOP_S = 35.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process that the supervisor keeps running."""

    name: str
    argv: list[str]
    gets_socket: bool = False
    """Whether it inherits the listening socket (its descriptor is in ``CLARY_LISTEN_FD``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to supervise."""

    data_dir: str
    run_dir: str
    log_dir: str
    host: str
    port: int
    roles: list[Role]
    life: str = field(default_factory=lambda: os.urandom(8).hex())
    """Names this run: what was observed in another life does not count."""

    banner: str = ""
    """Line to print once the socket is open; ``{url}`` becomes the address."""

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan that ``to_json`` wrote."""
        data = json.loads(text)
        roles = [Role(**role) for role in data.pop("roles")]
        return cls(roles=roles, **data)


class Refusal(Exception):
    """The server cannot start; the message is for the person at the terminal."""


@dataclass(slots=True)
class Child:
    """A process that was started here, alive or dead."""

    id: str
    process: subprocess.Popen[bytes]
    started_at: float
    role: Role | None = None
    returncode: int | None = None

    @property
    def is_alive(self) -> bool:
        return self.returncode is None


class Supervisor:
    """Starts, watches and stops; one thread, one selector."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run_dir = Path(plan.run_dir)
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._quick_deaths: dict[str, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._exit_status = 0
        self._lock_fd = -1
        self._listener: socket.socket | None = None
        self._lifeline_read, self._lifeline_write = os.pipe()

    # Life ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until told to stop; return the exit status.

        Raises:
            Refusal: The data directory or the port is not to be had.
        """
        self._take_lock()
        self._open_listener()
        self._prepare_run_dir()
        self._become_subreaper()
        self._watch_signals()
        for role in self._plan.roles:
            self._start_role(role)
        if self._plan.banner:
            print(self._plan.banner.format(url=self._url()), flush=True)  # noqa: T201
        while not (self._stopping and not self._alive()):
            pause = self._run_timers()
            for key, _ in self._selector.select(pause):
                key.data()
        self._clean_up()
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

    def _open_listener(self) -> None:
        host, port = self._plan.host, self._plan.port
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, proto)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(4096)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                reason = (
                    f"port {port} is taken by another program; stop it, or choose another port "
                    "with --port"
                )
            raise Refusal(f"cannot listen on {host}:{port}: {reason}") from error
        listener.setblocking(False)
        self._listener = listener

    def _prepare_run_dir(self) -> None:
        try:
            facts = {"pid": os.getpid(), "url": self._url(), "life": self._plan.life}
            partial = self._run_dir / "server.json.partial"
            partial.write_text(json.dumps(facts))
            partial.replace(self._run_dir / "server.json")
            self._open_control_socket()
        except OSError as error:
            raise Refusal(f"cannot write in {self._run_dir}: {error.strerror}") from error

    def _url(self) -> str:
        assert self._listener is not None
        port = self._listener.getsockname()[1]
        host = self._plan.host
        if host in ("0.0.0.0", "::", "[::]"):
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host.strip("[]") else f"http://{host}:{port}"

    def _open_control_socket(self) -> None:
        path = self._run_dir / "supervisor.sock"
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(16)
        server.setblocking(False)

        def accept() -> None:
            with contextlib.suppress(BlockingIOError):
                connection, _ = server.accept()
                Conversation(self, connection, self._selector)

        self._selector.register(server, selectors.EVENT_READ, accept)

    def _become_subreaper(self) -> None:
        # Workers whose host was killed then become ours, not the system's: no orphan is lost.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

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
                    self._reap()
                elif not self._stopping:
                    self._stop()
                elif number == signal.SIGINT:  # a second Ctrl-C: the person means it
                    self._kill_all()

        self._selector.register(reader, selectors.EVENT_READ, handle)

    def _run_timers(self) -> float | None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, action in due:
            action()
        if not self._timers:
            return None
        return max(0.0, min(at for at, _ in self._timers) - time.monotonic())

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, action))

    # Children -----------------------------------------------------------------------------

    def _alive(self) -> list[Child]:
        return [child for child in self._children.values() if child.is_alive]

    def _start_role(self, role: Role) -> None:
        if self._stopping:
            return
        environment = dict(os.environ)
        pass_fds = [self._lifeline_read]
        if role.gets_socket and self._listener is not None:
            environment["CLARY_LISTEN_FD"] = str(self._listener.fileno())
            pass_fds.append(self._listener.fileno())
        log = os.path.join(self._plan.log_dir, f"{role.name}.log")
        try:
            self._start(role.name, role.argv, environment, None, log, pass_fds, role)
        except OSError as error:  # no process, descriptor or inode to be had: that may pass
            self._complain(f"{role.name} cannot be started: {error}; trying again")
            self._after(RESTART_PAUSES_S[-1], lambda: self._start_role(role))

    def spawn(
        self, id: str, argv: list[str], environment: dict[str, str], cwd: str | None, log: str
    ) -> int:
        """Start a child by request, unless it runs already; return its pid.

        Raises:
            OSError: It could not be started.
        """
        child = self._children.get(id)
        if child is not None and child.is_alive:
            return child.process.pid
        if self._stopping:
            raise OSError(errno.ESHUTDOWN, "the server is stopping")
        return self._start(id, argv, environment, cwd, log, [self._lifeline_read], None).process.pid

    def _start(
        self,
        id: str,
        argv: list[str],
        environment: dict[str, str],
        cwd: str | None,
        log: str,
        pass_fds: list[int],
        role: Role | None,
    ) -> Child:
        environment["CLARY_LIFELINE_FD"] = str(self._lifeline_read)
        environment["CLARY_LIFE"] = self._plan.life
        with open(log, "ab", buffering=0) as output:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                process_group=0,
            )
        child = Child(id=id, process=process, started_at=time.monotonic(), role=role)
        self._children[id] = child
        self._by_pid[process.pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._by_pid.pop(pid, None)
            if child is None:
                continue  # a worker that outlived its host
            child.returncode = os.waitstatus_to_exitcode(status)
            # Popen must not wait for a pid that is reaped, and may be somebody else's by now.
            child.process.returncode = child.returncode
            if child.role is not None:
                self._role_died(child, child.role)

    def _role_died(self, child: Child, role: Role) -> None:
        if self._stopping:
            return
        if child.returncode == EXIT_CONFIGURATION:
            error = self._run_dir / f"{role.name}.error"
            reason = error.read_text().strip() if error.exists() else f"{role.name} cannot start"
            self._complain(reason)
            self._exit_status = 2
            self._stop()
            return
        quick = time.monotonic() - child.started_at < SETTLED_AFTER_S
        deaths = self._quick_deaths.get(role.name, 0) + 1 if quick else 0
        self._quick_deaths[role.name] = deaths
        pause = RESTART_PAUSES_S[min(deaths, len(RESTART_PAUSES_S)) - 1] if deaths else 0.0
        self._complain(f"{role.name} ended ({describe_exit(child.returncode)}); starting it again")
        self._after(pause, lambda: self._start_role(role))

    def _complain(self, message: str) -> None:
        # Nobody reads any more, or the disk of the file is full: no reason to end the server.
        with contextlib.suppress(OSError):
            print(f"clary: {message}", file=sys.stderr, flush=True)  # noqa: T201

    # Requests of control ------------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one line of ``supervisor.sock`` asks."""
        operation = request.get("op")
        try:
            if operation == "spawn":
                pid = self.spawn(
                    request["id"],
                    request["argv"],
                    dict(request["env"]),
                    request.get("cwd"),
                    request["log"],
                )
                return {"ok": True, "pid": pid}
            if operation == "list":
                return {"ok": True, "children": self._list()}
            if operation == "signal":
                delivered = self._signal(
                    request["id"], int(request["signal"]), group=bool(request.get("group"))
                )
                return {"ok": True, "delivered": delivered}
            if operation == "forget":
                child = self._children.get(request["id"])
                if child is not None and child.role is None and not child.is_alive:
                    del self._children[request["id"]]
                return {"ok": True}
        except (OSError, KeyError, TypeError, ValueError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
        return {"ok": False, "error": f"unknown operation {operation!r}"}

    def _list(self) -> list[dict[str, Any]]:
        return [
            {
                "id": child.id,
                "pid": child.process.pid,
                "alive": child.is_alive,
                "returncode": child.returncode,
            }
            for child in self._children.values()
            if child.role is None
        ]

    def _signal(self, id: str, number: int, *, group: bool) -> bool:
        child = self._children.get(id)
        if child is None:
            return False
        try:
            if group:
                if not child.is_alive and not has_orphans_in_group(child.process.pid):
                    return False
                os.killpg(child.process.pid, number)
            elif child.is_alive:
                os.kill(child.process.pid, number)
            else:
                return False
        except (ProcessLookupError, PermissionError):
            return False
        return True

    # Stopping -----------------------------------------------------------------------------

    def _stop(self) -> None:
        """Gateways first, so that no request meets a half-stopped server; then the rest."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        fronts = [c for c in self._alive() if c.role is not None and c.role.gets_socket]
        for child in fronts:
            self._signal(child.id, signal.SIGTERM, group=False)
        deadline = time.monotonic() + DRAIN_S

        def stop_rest() -> None:
            if any(child.is_alive for child in fronts) and time.monotonic() < deadline:
                self._after(0.02, stop_rest)
                return
            for child in self._alive():
                self._signal(child.id, signal.SIGTERM, group=False)
            self._after(STOP_S, self._kill_all)

        stop_rest()

    def _kill_all(self) -> None:
        for child in list(self._children.values()):
            self._signal(child.id, signal.SIGKILL, group=True)

    def _clean_up(self) -> None:
        """Nothing outlives the supervisor: workers whose host is gone end here."""
        for child in self._children.values():
            if child.role is None:
                self._signal(child.id, signal.SIGKILL, group=True)
        with contextlib.suppress(ChildProcessError):
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    signal.sigtimedwait([signal.SIGCHLD], 0.01)
        for name in ("supervisor.sock", "server.json"):
            (self._run_dir / name).unlink(missing_ok=True)


class Conversation:
    """One connection to ``supervisor.sock``."""

    def __init__(
        self, supervisor: Supervisor, connection: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        self._supervisor = supervisor
        self._connection = connection
        self._selector = selector
        self._decoder = LineDecoder(limit=4 * 1024 * 1024)
        connection.settimeout(1.0)  # replies are small; a peer that does not read is dropped
        selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(65536)
            if not data:
                self._close()
                return
            for request in self._decoder.feed(data):
                self._connection.sendall(encode_line(self._supervisor.answer(request)))
        except (OSError, ProtocolError):
            self._close()

    def _close(self) -> None:
        self._selector.unregister(self._connection)
        self._connection.close()


def has_orphans_in_group(group: int) -> bool:
    """Whether a process group holds a process that came to us when its parent died.

    Asked before a dead child's group gets a signal: with all its members gone, the number may
    belong to somebody else's group by now.
    """
    me = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    _, parent, its_group, *_ = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # gone meanwhile
            if int(its_group) == group and int(parent) == me:
                return True
    return False


def describe_exit(returncode: int | None) -> str:
    """Say in words how a process ended."""
    if returncode is None:
        return "still running"
    if returncode < 0:
        try:
            return f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"killed by signal {-returncode}"
    return f"exit status {returncode}"


def main() -> NoReturn:
    """Run the plan named on the command line: ``clary-supervisor <plan.json>``."""
    plan = Plan.from_json(Path(sys.argv[2]).read_text())
    try:
        status = Supervisor(plan).run()
    except Refusal as refusal:
        print(f"clary: {refusal}", file=sys.stderr)  # noqa: T201
        status = 1
    raise SystemExit(status)


if __name__ == "__main__":
    main()
